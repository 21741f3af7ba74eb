# Guided Distillation, stage A on Cityscapes with DeiT-B.
# Leaves work_dirs/guided_teacher_cityscapes_deit_b/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/deit_b.py']
model = _base_.network
