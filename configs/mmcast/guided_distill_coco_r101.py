# Guided Distillation, stage B on COCO with ResNet-101.
# Leaves work_dirs/guided_distill_coco_r101/student.pth.
_base_ = ['./guided_distill_coco.py', './_base_/backbones/r101.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_coco_r101/teacher.pth'),
)
