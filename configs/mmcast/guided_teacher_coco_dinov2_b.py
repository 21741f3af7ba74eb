# Guided Distillation, stage A on COCO with DINOv2 ViT-B.
# Leaves work_dirs/guided_teacher_coco_dinov2_b/teacher.pth.
_base_ = ['./guided_teacher_coco.py', './_base_/backbones/dinov2_b.py']
model = _base_.network
