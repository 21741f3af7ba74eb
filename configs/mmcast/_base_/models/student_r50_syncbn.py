# Guided Distillation's network on Cityscapes: batch norm is trained and synchronised
# over GPUs.
_base_ = './student_r50.py'
model = dict(
    backbone=dict(norm_cfg=dict(type='SyncBN', requires_grad=True), norm_eval=False)
)
