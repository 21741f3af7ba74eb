# SimMIM with mmpretrain's own model, on SynthScapes' images without labels.
_base_ = ['../../_base_/default_runtime.py', './encoder_synthscapes.py']
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    worker_init_fn=dict(type='end_with_parent'),
    sampler=dict(type='PlacedInfiniteSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='DepthSegDataset',
        data_root=_base_.data_root,
        data_prefix=dict(img_path='leftImg8bit/train'),
        img_suffix='.png',
        metainfo=dict(classes=()),
        pipeline=[
            dict(type='LoadImageFromFile'),
            *_base_.views,
            dict(
                type='mmpretrain.SimMIMMaskGenerator',
                input_size=128,
                mask_patch_size=16,
            ),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
model = dict(
    type='mmpretrain.SimMIM',
    data_preprocessor=dict(
        type='mmpretrain.SelfSupDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        to_rgb=True,
    ),
    backbone=dict(_base_.encoder, type='SimMIMSwinV2', drop_path_rate=0.0),
    neck=dict(
        type='mmpretrain.SimMIMLinearDecoder', in_channels=192, encoder_stride=16
    ),
    head=dict(
        type='mmpretrain.SimMIMHead',
        patch_size=4,
        loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L1', channel=3),
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000)
param_scheduler = dict(
    type='CosineAnnealingLR', by_epoch=False, T_max=train_cfg['max_iters']
)
default_hooks = dict(
    export=dict(out='backbone.pth', part='backbone'),
)
