# RTMDet-Ins-tiny (5.6 M parameters), from the zoo's weights of 300 epochs on COCO.
_base_ = './student_rtmdet_ins_s.py'
width = 96
model = dict(
    backbone=dict(deepen_factor=0.167, widen_factor=0.375),
    neck=dict(in_channels=[width, 2 * width, 4 * width], out_channels=width),
    bbox_head=dict(in_channels=width, feat_channels=width),
    init_cfg=dict(
        checkpoint=_base_.zoo + 'rtmdet-ins_tiny_8xb32-300e_coco/'
        'rtmdet-ins_tiny_8xb32-300e_coco_20221130_151727-ec670f7e.pth',
    ),
)
imagenet = _base_.zoo + 'cspnext_rsb_pretrain/cspnext-tiny_imagenet_600e.pth'
on_coco = dict(backbone=dict(init_cfg=dict(checkpoint=imagenet)))
