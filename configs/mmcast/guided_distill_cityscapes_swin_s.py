# Guided Distillation, stage B on Cityscapes with Swin-S.
# Leaves work_dirs/guided_distill_cityscapes_swin_s/student.pth.
_base_ = ['./guided_distill_cityscapes.py', './_base_/backbones/swin_s.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_cityscapes_swin_s/teacher.pth'),
)
