# Guided Distillation, stage A on Cityscapes: the teacher of the burn-in, on the
# labelled split alone. Leaves work_dirs/guided_teacher_cityscapes/teacher.pth, the last
# iteration's; the published code keeps the one that was best in validation.
_base_ = [
    './_base_/models/guided_r50.py',
    './_base_/datasets/cityscapes.py',
    './_base_/schedules/guided_cityscapes_90k.py',
    './_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=16)
custom_hooks = [dict(type='StudentExportHook', out='teacher.pth', attr='')]
