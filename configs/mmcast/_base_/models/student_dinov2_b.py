# DINOv2's ViT-B/14; its last patch tokens become a pyramid.
_base_ = './mask2former_deformable.py'
model = dict(
    backbone=dict(
        type='ViTPyramid',
        vit=dict(type='DINOv2', arch='base', out_indices=[11]),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/'
            'dinov2_vitb14_pretrain.pth',
        ),
    ),
    panoptic_head=dict(in_channels=[128, 256, 512, 1024]),
    pixel_contrast=dict(in_channels=1024),
)
