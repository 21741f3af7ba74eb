# Minutes on two CPU cores: AdamW with a short warm-up, then down to zero.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        custom_keys={'backbone': dict(lr_mult=0.3)},
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False),
]
# One validation, after the last iteration.
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=700, val_begin=1, val_interval=10000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=2)
