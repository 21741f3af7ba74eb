# The baseline on photographs: train the student on the labelled split alone.
# Leaves work_dirs/supervised_ccp/student.pth.
_base_ = [
    './_base_/models/student_small.py',
    './_base_/datasets/ccp_256.py',
    './_base_/schedules/small.py',
    './_base_/default_runtime.py',
]
model = dict(classes=_base_.classes)
auto_scale_lr = dict(base_batch_size=4)
