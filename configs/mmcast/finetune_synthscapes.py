# CAST stage 3 on SynthScapes: the distilled student refined on labels alone.
# Reads work_dirs/distill_synthscapes/student.pth;
# leaves work_dirs/finetune_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes.py',
    './_base_/datasets/synthscapes.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
# Statistics of normalisation stay as both sources made them.
model = dict(pixel_contrast=None, strong_view=None, backbone=dict(norm_eval=True))
load_from = 'work_dirs/distill_synthscapes/student.pth'
max_iters = 80
optim_wrapper = dict(optimizer=dict(lr=2e-5))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=10000)
custom_hooks = [
    dict(
        type='StageInputsHook',
        inputs={load_from: 'mim train mmdet configs/mmcast/distill_synthscapes.py'},
    ),
    dict(type='StudentExportHook', out='student.pth', attr=''),
]
