# The baseline on Cityscapes: train the student on the labelled split alone.
# Leaves work_dirs/supervised_cityscapes/student.pth.
_base_ = [
    './_base_/models/student_{{$STUDENT:dpt256}}.py',
    './_base_/datasets/cityscapes.py',
    './_base_/schedules/cityscapes_90k.py',
    './_base_/default_runtime.py',
]
model = dict(num_classes=_base_.num_classes, pixel_contrast=None)
work_dir = _base_.out and f'{_base_.out}/supervised_cityscapes'
