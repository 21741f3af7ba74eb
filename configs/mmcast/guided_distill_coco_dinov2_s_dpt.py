# Guided Distillation, stage B on COCO with CAST's student.
# Leaves work_dirs/guided_distill_coco_dinov2_s_dpt/student.pth.
_base_ = ['./guided_distill_coco.py', './_base_/backbones/dinov2_s_dpt_coco.py']
model = dict(
    student=_base_.network,
    teacher=dict(checkpoint='work_dirs/guided_teacher_coco_dinov2_s_dpt/teacher.pth'),
    data_preprocessor=dict(data_preprocessor=_base_.network.data_preprocessor),
)
