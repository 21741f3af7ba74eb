# SAM 2's prompt encoder and mask decoder, as in the notebooks of CAST's author: AdamW
# 5e-6, weight decay 1e-4, linear decay, batch 1, 50 epochs (of 297 images here).
optim_wrapper = dict(
    type='OptimWrapper',  # `--amp` makes it AmpOptimWrapper, the published setting
    optimizer=dict(type='AdamW', lr=5e-6, weight_decay=1e-4),
)
param_scheduler = dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=15000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=1)
find_unused_parameters = True  # box prompts do not use points, masks, quality
