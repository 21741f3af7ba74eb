# Guided Distillation, stage A on COCO: the teacher of the burn-in, on the
# labelled split alone. Leaves work_dirs/guided_teacher_coco/teacher.pth, the last
# iteration's; the published code keeps the one that was best in validation.
_base_ = [
    './_base_/models/guided_r50_coco.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/guided_coco_369k.py',
    './_base_/default_runtime.py',
]
custom_hooks = [dict(type='StudentExportHook', out='teacher.pth', attr='')]
