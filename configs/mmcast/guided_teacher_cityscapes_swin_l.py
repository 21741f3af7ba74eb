# Guided Distillation, stage A on Cityscapes with Swin-L.
# Leaves work_dirs/guided_teacher_cityscapes_swin_l/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/swin_l.py']
model = _base_.network
