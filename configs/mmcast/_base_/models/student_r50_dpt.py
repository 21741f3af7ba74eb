# CAST, Table 5: ResNet-50 with DPT; its pyramid needs no reassembling.
_base_ = './student_dpt256.py'
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    panoptic_head=dict(
        in_channels=[256, 512, 1024, 2048],
        pixel_decoder=dict(reassemble_channels=None),
    ),
    pixel_contrast=dict(in_channels=2048, downsample=1),
)
