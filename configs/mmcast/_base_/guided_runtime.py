# default_runtime.py for Guided Distillation's stage B, with its three hooks.
_base_ = './default_runtime.py'
# Of the teacher's figures, too, the log has means over its window.
log_processor = dict(mean_pattern=r'.*(loss|time|data_time|grad_norm|teacher_).*')
custom_hooks = [
    # The published code's default; its README leaves the number of iterations open.
    dict(type='TeacherUpdateHook', burn_in_iters=50000, momentum=0.9996),
    dict(type='StageInputsHook'),
    dict(type='StudentExportHook', out='student.pth', better_by='coco/segm_mAP'),
]
