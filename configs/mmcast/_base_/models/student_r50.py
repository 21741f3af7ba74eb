# Guided Distillation's network on COCO: ResNet-50 with frozen batch norm.
_base_ = './mask2former_deformable.py'
model = dict(
    backbone=dict(
        type='ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    panoptic_head=dict(in_channels=[256, 512, 1024, 2048]),
    pixel_contrast=dict(in_channels=2048),
)
