# CAST on Cityscapes: AdamW 5e-5, weight decay 0.1, poly 0.9 without warm-up, 90k
# iterations with a total batch of 8 (2 GPUs x 4), gradients clipped at 0.01.
embeddings = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    constructor='NoNormDecayConstructor',
    type='OptimWrapper',  # `--amp` makes it AmpOptimWrapper, the published setting
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.1),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            'reassemble': dict(lr_mult=0.1),  # in the research code's backbone
            'pos_embed': dict(lr_mult=0.1, decay_mult=0.0),
            'cls_token': dict(lr_mult=0.1, decay_mult=0.0),
            'relative_position_bias_table': dict(lr_mult=0.1, decay_mult=0.0),
            'query_embed': embeddings,
            'query_feat': embeddings,
            'level_embed': embeddings,
        },
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
param_scheduler = dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=45000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
