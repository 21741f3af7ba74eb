# Own data, size medium, stage 3: refine the distilled student on the labels.
_base_ = './supervised.py'
model = dict(init_cfg=None)
optim_wrapper = dict(optimizer=dict(lr=_base_.optim_wrapper.optimizer.lr / 10))
param_scheduler = [_base_.decay]
train_cfg = dict(max_iters=2000, val_interval=2000)
