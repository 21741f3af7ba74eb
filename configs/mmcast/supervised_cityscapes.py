# The baseline on Cityscapes: the student on the labelled split alone.
# Leaves work_dirs/supervised_cityscapes/student.pth.
_base_ = [
    './_base_/models/student_dpt256.py',
    './_base_/datasets/cityscapes.py',
    './_base_/schedules/cityscapes_90k.py',
    './_base_/default_runtime.py',
]
model = dict(pixel_contrast=None, strong_view=None)
custom_hooks = [dict(type='StudentExportHook', out='student.pth', attr='')]
