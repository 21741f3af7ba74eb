# Guided Distillation, stage B on Cityscapes: a student from ImageNet's weights, and the
# teacher that labels for it: stage A's at first, then the student's average.
# Reads work_dirs/guided_teacher_cityscapes/teacher.pth;
# leaves work_dirs/guided_distill_cityscapes/student.pth, the better one of the two.
_base_ = [
    './_base_/models/guided_r50.py',
    './_base_/models/guided_distillation.py',
    './_base_/datasets/cityscapes_guided.py',
    './_base_/schedules/guided_cityscapes_90k.py',
    './_base_/default_runtime.py',
]
teacher = 'work_dirs/guided_teacher_cityscapes/teacher.pth'
model = dict(
    _base_.guided,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        _base_.model,
        backbone=dict(_base_.model.backbone, init_cfg=None),
        init_cfg=dict(type='Pretrained', checkpoint=teacher),
    ),
    data_preprocessor=dict(
        type='MultiBranchDataPreprocessor',
        data_preprocessor=_base_.model.data_preprocessor,
    ),
)
val_cfg = dict(type='TeacherStudentValLoop')  # 'ValLoop' for the student alone
auto_scale_lr = dict(base_batch_size=32)
# Of the teacher's figures, too, the log has means over its window.
log_processor = dict(mean_pattern=r'.*(loss|time|data_time|grad_norm|teacher_).*')
custom_hooks = [
    # The published code's default; its README leaves the number of iterations open.
    dict(type='TeacherUpdateHook', burn_in_iters=50000, momentum=0.9996),
    dict(
        type='StageInputsHook',
        inputs={teacher: 'mim train mmdet configs/mmcast/guided_teacher_cityscapes.py'},
    ),
    dict(type='StudentExportHook', out='student.pth', better_by='coco/segm_mAP'),
]
