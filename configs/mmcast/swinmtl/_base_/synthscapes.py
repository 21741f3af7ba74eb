# SynthScapes' target domain, and a small network that trains in minutes on a CPU.
_base_ = ['./cityscapes.py', './encoder_synthscapes.py']
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        data_root=_base_.data_root,
        pipeline=[*_base_.load, *_base_.views, _base_.pack],
    ),
)
val_dataloader = dict(
    batch_size=4, num_workers=1, dataset=dict(data_root=_base_.data_root)
)
test_dataloader = val_dataloader
model = dict(
    # Mixing gains nothing in a run of minutes: docs/swinmtl.md.
    data_preprocessor=dict(batch_augments=[dict(type='PasteMix', prob=0.0)]),
    backbone=dict(_base_.encoder, _delete_=True),
    decoder=dict(
        in_channels=192, channels=64, num_deconvs=2, out_channels=64, init_std=0.02
    ),
    head_stride=4,
    depth_head=dict(in_channels=64, init_std=0.02),
    seg_head=dict(in_channels=64, init_std=0.02),
    critic=dict(channels=8, init_std=0.02),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, fused=True),
    critic_optimizer=dict(fused=True),
    paramwise_cfg=dict(layer_decay_rate=1.0),  # the encoder starts at random
)
train_cfg = dict(max_iters=600, val_interval=10000, val_begin=10000)
param_scheduler = dict(model=[dict(type='RiseAndFallLR', by_epoch=False)])
auto_scale_lr = dict(base_batch_size=8)
