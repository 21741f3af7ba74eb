# Swin-L with ImageNet-21k's weights and twice as many queries.
_base_ = './student_swin_b.py'
model = dict(
    backbone=dict(
        embed_dims=192,
        num_heads=[6, 12, 24, 48],
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/'
            'v1.0.0/swin_large_patch4_window12_384_22k.pth',
        ),
    ),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200),
    pixel_contrast=dict(in_channels=1536),
)
