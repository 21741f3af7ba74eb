# Guided Distillation, stage A on COCO with Swin-L.
# Leaves work_dirs/guided_teacher_coco_swin_l/teacher.pth.
_base_ = ['./guided_teacher_coco.py', './_base_/backbones/swin_l.py']
model = _base_.network
train_cfg = _base_.twice_as_long.train_cfg
param_scheduler = _base_.twice_as_long.param_scheduler
