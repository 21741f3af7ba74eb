# student_r50.py with ResNet-101.
_base_ = './student_r50.py'
model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101'))
)
