# Guided Distillation, stage B on Cityscapes with DINOv2 ViT-L.
# Leaves work_dirs/guided_distill_cityscapes_dinov2_l/student.pth.
_base_ = ['./guided_distill_cityscapes.py', './_base_/backbones/dinov2_l.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_cityscapes_dinov2_l/teacher.pth'),
)
