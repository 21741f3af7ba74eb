# The baseline on ADE20K: the student on the labelled split alone.
# Leaves work_dirs/supervised_ade20k/student.pth.
_base_ = [
    './_base_/models/student_dpt256_ade20k.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_160k.py',
    './_base_/default_runtime.py',
]
model = dict(pixel_contrast=None, strong_view=None)
custom_hooks = [dict(type='StudentExportHook', out='student.pth', attr='')]
