# DINOv2's ViT-B/14, of which the last patch tokens become a pyramid.
network = dict(
    backbone=dict(
        _delete_=True,
        type='ViTPyramid',
        vit=dict(type='DINOv2', arch='base', out_indices=[11]),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/'
            'dinov2_vitb14_pretrain.pth',
        ),
    ),
    panoptic_head=dict(in_channels=[128, 256, 512, 1024]),
)
