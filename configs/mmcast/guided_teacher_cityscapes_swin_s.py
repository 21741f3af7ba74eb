# Guided Distillation, stage A on Cityscapes with Swin-S.
# Leaves work_dirs/guided_teacher_cityscapes_swin_s/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/swin_s.py']
model = _base_.network
