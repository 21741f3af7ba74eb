# ResNet-101. Of these files each is what differs from guided_r50.py's network.
network = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101'))
)
