# MM-Grounding-DINO on a few labelled images, as in CAST's research code: AdamW 5e-5,
# weight decay 0.01, backbone at a tenth, text encoder frozen, 1,000 iterations with a
# total batch of 8 (2 GPUs x 4), gradients clipped at 0.1, evaluated every 500.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': dict(decay_mult=0.0),
            'backbone': dict(lr_mult=0.1),
            'language_model': dict(lr_mult=0.0),
        }
    ),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = dict(
    type='MultiStepLR', by_epoch=False, milestones=[700, 900], gamma=0.1
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
