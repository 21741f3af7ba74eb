# Takes minutes on two CPU cores. Training from scratch needs a larger learning rate.
_base_ = './cityscapes_90k.py'
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=1.0)}),
)
# No validation during training or at its end: `mim test` evaluates the export.
train_cfg = dict(max_iters=2000, val_interval=10000, val_begin=10000)
