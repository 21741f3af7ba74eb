# Guided Distillation, stage B on Cityscapes with CAST's student.
# Leaves work_dirs/guided_distill_cityscapes_dinov2_s_dpt/student.pth.
_base_ = ['./guided_distill_cityscapes.py', './_base_/backbones/dinov2_s_dpt.py']
model = dict(
    student=_base_.network,
    teacher=dict(
        checkpoint='work_dirs/guided_teacher_cityscapes_dinov2_s_dpt/teacher.pth'
    ),
    data_preprocessor=dict(data_preprocessor=_base_.network.data_preprocessor),
)
