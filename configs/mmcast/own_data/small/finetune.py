# Own data, size small, stage 3: refine the distilled student on the labels.
_base_ = './supervised.py'
model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=100)
