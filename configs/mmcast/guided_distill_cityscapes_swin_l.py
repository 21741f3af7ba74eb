# Guided Distillation, stage B on Cityscapes with Swin-L.
# Leaves work_dirs/guided_distill_cityscapes_swin_l/student.pth.
_base_ = ['./guided_distill_cityscapes.py', './_base_/backbones/swin_l.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_cityscapes_swin_l/teacher.pth'),
)
