# Own data, size full, stage 2: the DPT student learns from labels and the teacher.
_base_ = '../../distill_ade20k.py'
train_cfg = dict(max_iters=40000, val_interval=10000)
