# Own data, size full, stage 3: refine the distilled student on the labels.
_base_ = '../../finetune_ade20k.py'
train_cfg = dict(max_iters=4000, val_interval=4000)
