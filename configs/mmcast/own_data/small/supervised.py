# Own data, size small: train Mask R-CNN with MobileNetV2 on the labels alone.
_base_ = [
    '../../_base_/models/student_small.py',
    '../../_base_/datasets/own_data_small.py',
    '../../_base_/schedules/small.py',
    '../../_base_/default_runtime.py',
]
