# Own data, size tiny, stage 1: train SynthScapes' teacher on the labels.
_base_ = [
    '../../_base_/models/teacher_synthscapes.py',
    '../../_base_/datasets/own_data_tiny.py',
    '../../_base_/schedules/synthscapes.py',
    '../../_base_/teacher_runtime.py',
]
# The contrast doubles the time of a step.
model = dict(pixel_contrast=None)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
train_cfg = dict(max_iters=200, val_begin=1)
