# Guided Distillation, stage A on Cityscapes with DINOv2 ViT-B.
# Leaves work_dirs/guided_teacher_cityscapes_dinov2_b/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/dinov2_b.py']
model = _base_.network
