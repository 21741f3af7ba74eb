# student_r50_syncbn.py with ResNet-101.
_base_ = './student_r50_syncbn.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101'))
)
