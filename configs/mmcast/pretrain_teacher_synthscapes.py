# Makes the stand-in foundation teacher: SynthScapes' source domain only.
# weights/README.md has the command; leaves
# work_dirs/pretrain_teacher_synthscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_synthscapes.py',
    './_base_/datasets/synthscapes_source.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
model = dict(init_cfg=None, pixel_contrast=None, strong_view=None)
max_iters = 1800
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [dict(type='StudentExportHook', out='teacher.pth', attr='')]
