# The baseline on ADE20K: train the student on the labelled split alone.
# Leaves work_dirs/supervised_ade20k/student.pth.
_base_ = [
    './_base_/models/student_{{$STUDENT:dpt256}}.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_160k.py',
    './_base_/default_runtime.py',
]
model = dict(num_classes=_base_.num_classes, pixel_contrast=None)
work_dir = _base_.out and f'{_base_.out}/supervised_ade20k'
