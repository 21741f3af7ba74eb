# Guided Distillation's Mask2Former with ResNet-50: deformable pixel decoder of six
# layers, 100 queries, batch norm trained and synchronised over GPUs.
_base_ = './teacher_swin_l.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    panoptic_head=dict(in_channels=[256, 512, 1024, 2048], num_queries=100),
    strong_view=None,
    pixel_contrast=None,
    init_cfg=None,
)
