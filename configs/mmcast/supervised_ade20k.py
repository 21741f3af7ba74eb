# The baseline on ADE20K: train the student on the labelled split alone.
# Leaves work_dirs/supervised_ade20k/student.pth.
_base_ = './_base_/student_on_ade20k.py'
model = dict(pixel_contrast=None)
work_dir = _base_.out and f'{_base_.out}/supervised_ade20k'
