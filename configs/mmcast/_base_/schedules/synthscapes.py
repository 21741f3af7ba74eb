# Minutes on two CPU cores; trained from scratch, hence the larger learning rate.
_base_ = './cityscapes_90k.py'
max_iters = 450
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=1.0)}),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
# No validation in between or at the end: `mim test` evaluates what is exported.
train_cfg = dict(max_iters=max_iters, val_interval=10000, val_begin=10000)
