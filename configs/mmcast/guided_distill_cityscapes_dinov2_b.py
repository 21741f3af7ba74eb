# Guided Distillation, stage B on Cityscapes with DINOv2 ViT-B.
# Leaves work_dirs/guided_distill_cityscapes_dinov2_b/student.pth.
_base_ = ['./guided_distill_cityscapes.py', './_base_/backbones/dinov2_b.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_cityscapes_dinov2_b/teacher.pth'),
)
