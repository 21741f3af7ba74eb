# Guided Distillation, stage A on Cityscapes with ResNet-101.
# Leaves work_dirs/guided_teacher_cityscapes_r101/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/r101.py']
model = _base_.network
