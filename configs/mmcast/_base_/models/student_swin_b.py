# Swin-B with ImageNet-21k's weights.
_base_ = './student_swin_t.py'
model = dict(
    backbone=dict(
        pretrain_img_size=384,
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        init_cfg=dict(
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/'
            'v1.0.0/swin_base_patch4_window12_384_22k.pth',
        ),
    ),
    panoptic_head=dict(in_channels=[128, 256, 512, 1024]),
    pixel_contrast=dict(in_channels=1024),
)
