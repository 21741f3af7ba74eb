# The baseline on SynthScapes: train the student on the labelled split alone.
# Leaves work_dirs/supervised_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes.py',
    './_base_/datasets/synthscapes.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
model = dict(pixel_contrast=None)
auto_scale_lr = dict(base_batch_size=4)
