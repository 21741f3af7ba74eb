# Own data, size full: train the DPT student on the labels alone.
_base_ = '../../supervised_ade20k.py'
train_cfg = dict(max_iters=40000, val_interval=10000)
