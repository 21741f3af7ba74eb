# CAST stage 1, step 1 on SynthScapes: train the pre-trained teacher on the labelled
# split. Reads the stand-in foundation teacher in weights/;
# leaves work_dirs/adapt_synthscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_synthscapes.py',
    './_base_/datasets/synthscapes.py',
    './_base_/schedules/synthscapes.py',
    './_base_/teacher_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=2e-4))
# For 10 labels: longer adaptation is worse on average (docs/results_tables.md).
train_cfg = dict(max_iters=30)
default_hooks = dict(logger=dict(interval=10))
