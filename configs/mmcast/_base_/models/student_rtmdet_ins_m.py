# RTMDet-Ins-m (27.6 M parameters), from the zoo's weights of 300 epochs on COCO.
_base_ = './student_rtmdet_ins_s.py'
width = 192
model = dict(
    backbone=dict(deepen_factor=0.67, widen_factor=0.75),
    neck=dict(
        in_channels=[width, 2 * width, 4 * width], out_channels=width, num_csp_blocks=2
    ),
    bbox_head=dict(in_channels=width, feat_channels=width),
    init_cfg=dict(
        checkpoint=_base_.zoo + 'rtmdet-ins_m_8xb32-300e_coco/'
        'rtmdet-ins_m_8xb32-300e_coco_20221123_001039-6eba602e.pth',
    ),
)
imagenet = (
    _base_.zoo + 'cspnext_rsb_pretrain/cspnext-m_8xb256-rsb-a1-600e_in1k-ecb3bbd9.pth'
)
on_coco = dict(backbone=dict(init_cfg=dict(checkpoint=imagenet)))
