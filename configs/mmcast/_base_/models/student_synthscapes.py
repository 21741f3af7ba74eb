# A small version of the full-size student: ResNet-18 with an eighth of the width, DPT,
# masked decoder. weights/README.md says how to make its starting weights.
_base_ = './mask2former_dpt.py'
width = 32
model = dict(
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=8,
        stem_channels=8,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
    ),
    panoptic_head=dict(
        in_channels=[8, 16, 32, 64],
        feat_channels=width,
        out_channels=width,
        num_queries=30,
        positional_encoding=dict(num_feats=width // 2),
        pixel_decoder=dict(upsample_last=False),
        transformer_decoder=dict(
            num_layers=2,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=width, num_heads=2),
                cross_attn_cfg=dict(embed_dims=width, num_heads=2),
                ffn_cfg=dict(embed_dims=width, feedforward_channels=128),
            ),
        ),
    ),
    pixel_contrast=dict(in_channels=64, embed_channels=64),
    train_cfg=dict(num_points=512),
    test_cfg=dict(max_per_image=50),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='{{ fileDirname }}/../../weights/synthscapes_student.pth',
    ),
)
