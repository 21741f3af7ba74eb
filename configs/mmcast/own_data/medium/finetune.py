# Own data, size medium, stage 3: refine the distilled student on the labels.
_base_ = './supervised.py'
model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(optimizer=dict(lr=1e-5))
train_cfg = dict(max_iters=2000, val_interval=2000)
