# CAST stage 3 on ADE20K: the distilled student refined on labels alone.
# Reads work_dirs/distill_ade20k/student.pth;
# leaves work_dirs/finetune_ade20k/student.pth.
# The paper gives neither learning rate nor length of this stage: a tenth of stage
# 2's rate over 10k iterations is this project's choice.
_base_ = [
    './_base_/models/student_dpt256_ade20k.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_160k.py',
    './_base_/default_runtime.py',
]
model = dict(pixel_contrast=None, strong_view=None, backbone=dict(init_cfg=None))
load_from = 'work_dirs/distill_ade20k/student.pth'
max_iters = 10000
optim_wrapper = dict(optimizer=dict(lr=1e-05))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=10000)
custom_hooks = [
    dict(
        type='StageInputsHook',
        inputs={load_from: 'mim train mmdet configs/mmcast/distill_ade20k.py'},
    ),
    dict(type='StudentExportHook', out='student.pth', attr=''),
]
