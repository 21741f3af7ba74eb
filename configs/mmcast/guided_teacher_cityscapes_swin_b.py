# Guided Distillation, stage A on Cityscapes with Swin-B.
# Leaves work_dirs/guided_teacher_cityscapes_swin_b/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/swin_b.py']
model = _base_.network
