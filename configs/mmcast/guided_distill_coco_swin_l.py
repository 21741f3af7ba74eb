# Guided Distillation, stage B on COCO with Swin-L.
# Leaves work_dirs/guided_distill_coco_swin_l/student.pth.
_base_ = ['./guided_distill_coco.py', './_base_/backbones/swin_l.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_coco_swin_l/teacher.pth'),
)
train_cfg = _base_.twice_as_long.train_cfg
param_scheduler = _base_.twice_as_long.param_scheduler
