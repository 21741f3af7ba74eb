# Guided Distillation's ResNet-50 on COCO: batch norm is frozen, and whatever the scale,
# images are padded to one size.
_base_ = './guided_r50.py'
model = dict(
    num_classes=80,
    data_preprocessor=dict(
        batch_augments=[
            dict(type='BatchFixedSizePad', size=(1024, 1024), pad_mask=True)
        ]
    ),
    backbone=dict(norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True),
)
