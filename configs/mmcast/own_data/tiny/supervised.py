# Own data, size tiny: train SynthScapes' student on the labels alone.
_base_ = [
    '../../_base_/models/student_synthscapes.py',
    '../../_base_/datasets/own_data_tiny.py',
    '../../_base_/schedules/synthscapes.py',
    '../../_base_/default_runtime.py',
]
model = dict(pixel_contrast=None)
train_cfg = dict(max_iters=600, val_begin=1)
