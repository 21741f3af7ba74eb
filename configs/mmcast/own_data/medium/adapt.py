# Own data, size medium, stage 1: train Mask2Former, pre-trained on COCO, on the labels.
_base_ = [
    '../../_base_/models/teacher_mask2former_r50.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/schedules/ade20k_160k.py',
    '../../_base_/teacher_runtime.py',
]
train_cfg = dict(max_iters=5000, val_interval=1000)
