# CAST stage 1, step 1 on SynthScapes: the pre-trained teacher on the labelled split.
# Reads the stand-in foundation teacher of weights/;
# leaves work_dirs/adapt_synthscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_synthscapes.py',
    './_base_/datasets/synthscapes.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
max_iters = 300
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters)
custom_hooks = [
    dict(type='StudentExportHook', out='teacher.pth', attr=''),
]
