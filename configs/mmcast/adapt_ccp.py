# CAST stage 1, step 1 on photographs: train a larger detector at 1.5 times the
# student's size on the labelled split. Leaves work_dirs/adapt_ccp/teacher.pth.
_base_ = [
    './_base_/models/teacher_small.py',
    './_base_/datasets/ccp.py',
    './_base_/schedules/small.py',
    './_base_/teacher_runtime.py',
]
model = dict(classes=_base_.classes)
