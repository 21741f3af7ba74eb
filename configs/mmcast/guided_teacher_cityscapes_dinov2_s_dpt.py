# Guided Distillation, stage A on Cityscapes with CAST's student.
# Leaves work_dirs/guided_teacher_cityscapes_dinov2_s_dpt/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/dinov2_s_dpt.py']
model = _base_.network
