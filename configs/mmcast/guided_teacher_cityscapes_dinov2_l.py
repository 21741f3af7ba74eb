# Guided Distillation, stage A on Cityscapes with DINOv2 ViT-L.
# Leaves work_dirs/guided_teacher_cityscapes_dinov2_l/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/dinov2_l.py']
model = _base_.network
