# From scratch, with a warm-up, for 54 minutes of a CPU core.
_base_ = './synthscapes.py'
optim_wrapper = dict(
    optimizer=dict(lr=2e-3, weight_decay=0.02), clip_grad=dict(max_norm=1.0)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=200, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=200, eta_min=0.0, by_epoch=False),
]
train_cfg = dict(max_iters=3500)
