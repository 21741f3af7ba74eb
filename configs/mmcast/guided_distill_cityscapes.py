# Guided Distillation, stage B on Cityscapes: a student from ImageNet's weights, and the
# teacher that labels for it: stage A's at first, then the student's average.
# Reads work_dirs/guided_teacher_cityscapes/teacher.pth;
# leaves work_dirs/guided_distill_cityscapes/student.pth, the better one of the two.
_base_ = [
    './_base_/models/guided_r50.py',
    './_base_/models/guided_distillation.py',
    './_base_/datasets/cityscapes_guided.py',
    './_base_/schedules/guided_cityscapes_90k.py',
    './_base_/guided_runtime.py',
]
model = dict(
    _base_.guided,
    _delete_=True,
    student=_base_.model,
    teacher=dict(checkpoint='work_dirs/guided_teacher_cityscapes/teacher.pth'),
    data_preprocessor=dict(
        type='MultiBranchDataPreprocessor',
        data_preprocessor=_base_.model.data_preprocessor,
    ),
)
val_cfg = dict(type='TeacherStudentValLoop')  # 'ValLoop' for the student alone
auto_scale_lr = dict(base_batch_size=32)
