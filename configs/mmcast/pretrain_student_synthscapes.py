# Makes the student's start, the stand-in for DINOv2's weights: SynthScapes' source
# domain only. weights/README.md has the command; leaves
# work_dirs/pretrain_student_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes.py',
    './_base_/datasets/synthscapes_source.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
model = dict(init_cfg=None, pixel_contrast=None, strong_view=None)
max_iters = 700
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [dict(type='StudentExportHook', out='student.pth', attr='')]
