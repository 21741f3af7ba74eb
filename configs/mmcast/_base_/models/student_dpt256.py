# CAST's student: DINOv2-S, DPT of width 256, masked decoder of width 256 (55 M
# parameters; CAST publishes 52 M).
_base_ = './mask2former_dpt.py'
model = dict(
    data_preprocessor=dict(pad_size_divisor=14),
    backbone=dict(
        type='DINOv2',
        arch='dinov2-small',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/'
            'dinov2_vits14_pretrain.pth',
        ),
    ),
    panoptic_head=dict(
        in_channels=[384, 384, 384, 384],
        pixel_decoder=dict(reassemble_channels=[96, 192, 384, 768]),
    ),
    pixel_contrast=dict(in_channels=384, downsample=2),
)
# The next multiple of the patch size.
coco_padding = [dict(type='BatchFixedSizePad', size=(1036, 1036), pad_mask=True)]
