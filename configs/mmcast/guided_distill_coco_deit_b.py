# Guided Distillation, stage B on COCO with DeiT-B.
# Leaves work_dirs/guided_distill_coco_deit_b/student.pth.
_base_ = ['./guided_distill_coco.py', './_base_/backbones/deit_b.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_coco_deit_b/teacher.pth'),
)
