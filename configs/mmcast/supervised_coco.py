# The baseline on COCO: train the student on the labelled split alone.
# Leaves work_dirs/supervised_coco/student.pth.
_base_ = './_base_/student_on_coco.py'
model = dict(pixel_contrast=None)
work_dir = _base_.out and f'{_base_.out}/supervised_coco'
