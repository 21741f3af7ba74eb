# Backbone and pixel decoder of SynthScapes' student: ResNet-18 with an eighth of the
# width, and DPT with the coordinates that such a backbone does not know.
features = dict(
    width=32,
    levels=[8, 16, 32, 64],
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=8,
        stem_channels=8,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
    ),
    pixel_decoder=dict(type='DPTPixelDecoder', upsample_last=False, coordinates=True),
)
