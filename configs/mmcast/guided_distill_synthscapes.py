# Guided Distillation, stage B on SynthScapes: the student from its start, and the
# teacher that labels for it: stage A's at first, then the student's average.
# Reads work_dirs/guided_teacher_synthscapes/teacher.pth;
# leaves work_dirs/guided_distill_synthscapes/student.pth, the better one of the two.
_base_ = [
    './_base_/models/student_synthscapes.py',
    './_base_/models/guided_distillation.py',
    './_base_/datasets/synthscapes_guided.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
teacher = 'work_dirs/guided_teacher_synthscapes/teacher.pth'
student = dict(_base_.model, strong_view=None, pixel_contrast=None)
model = dict(
    _base_.guided,
    _delete_=True,
    student=student,
    teacher=dict(student, init_cfg=dict(type='Pretrained', checkpoint=teacher)),
    data_preprocessor=dict(
        type='MultiBranchDataPreprocessor',
        data_preprocessor=_base_.model.data_preprocessor,
    ),
)
train_cfg = dict(val_begin=1)  # at the end, to tell which of the two is better
val_cfg = dict(type='TeacherStudentValLoop')  # 'ValLoop' for the student alone
# Of the teacher's figures, too, the log has means over its window.
log_processor = dict(mean_pattern=r'.*(loss|time|data_time|grad_norm|teacher_).*')
custom_hooks = [
    # Switch and memory as published, in parts of the run: 50k of 90k iterations, and an
    # average over 2.5k of them.
    dict(type='TeacherUpdateHook', burn_in_iters=250, momentum=0.92),
    dict(
        type='StageInputsHook',
        inputs={
            teacher: 'mim train mmdet configs/mmcast/guided_teacher_synthscapes.py'
        },
    ),
    dict(type='StudentExportHook', out='student.pth', better_by='coco/segm_mAP'),
]
