# Own data, size medium: train ResNet-50 with DPT on the labels alone.
_base_ = [
    '../../_base_/models/student_r50_dpt.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/schedules/ade20k_160k.py',
    '../../_base_/default_runtime.py',
]
model = dict(pixel_contrast=None)
train_cfg = dict(max_iters=20000, val_interval=5000)
