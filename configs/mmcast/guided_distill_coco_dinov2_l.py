# Guided Distillation, stage B on COCO with DINOv2 ViT-L.
# Leaves work_dirs/guided_distill_coco_dinov2_l/student.pth.
_base_ = ['./guided_distill_coco.py', './_base_/backbones/dinov2_l.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_coco_dinov2_l/teacher.pth'),
)
