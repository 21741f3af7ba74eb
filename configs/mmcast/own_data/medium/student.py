# Own data, size medium: RTMDet-Ins-s with its optimiser, and the length of a training.
_base_ = [
    '../../_base_/models/student_rtmdet_ins_s.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/default_runtime.py',
]
decay = dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False)
param_scheduler = [*_base_.param_scheduler, dict(decay, begin=1000)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=20000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
