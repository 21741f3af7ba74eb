# DeiT-B/16 for 384x384 pixels; its last patch tokens become a pyramid.
_base_ = './mask2former_deformable.py'
model = dict(
    backbone=dict(
        type='ViTPyramid',
        vit=dict(
            type='mmpretrain.VisionTransformer',
            arch='deit-base',
            img_size=384,
            patch_size=16,
            out_type='featmap',
        ),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/deit/'
            'deit-base_3rdparty_ft-16xb32_in1k-384px_20211124-822d02f2.pth',
        ),
    ),
    panoptic_head=dict(in_channels=[128, 256, 512, 1024]),
    pixel_contrast=dict(in_channels=1024),
)
