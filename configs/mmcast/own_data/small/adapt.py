# Own data, size small, stage 1: train a larger Mask R-CNN on the labels.
_base_ = [
    '../../_base_/models/teacher_small.py',
    '../../_base_/datasets/own_data_small.py',
    '../../_base_/schedules/small.py',
    '../../_base_/teacher_runtime.py',
]
