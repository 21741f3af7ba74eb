# SwinMTL's published network and schedule, but for what a data set sets.
_base_ = ['../../_base_/default_runtime.py', './preset_{{$PRESET:default}}.py']
root = _base_.preset_root
simmim = 'pretrained/swin_v2_base_simmim.pth'
made_by = {
    simmim: 'download swin_v2_base_simmim.pth of MIM-Depth-Estimation by hand '
    f'(github.com/SwinTransformer/MIM-Depth-Estimation), put it at {simmim}, or start '
    'from random weights with model.backbone.init_cfg=None'
}
model = dict(
    type='SwinMTL',
    preset=_base_.preset,
    data_preprocessor=dict(
        type='DepthSegDataPreprocessor',
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        batch_augments=[dict(type='PasteMix')],
    ),
    backbone=dict(
        type='SwinV2',
        arch='base',
        window_size=[22, 22, 22, 11],
        pretrained_window_sizes=[12, 12, 12, 6],
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=simmim),
    ),
    decoder=dict(type='DeconvDecoder', in_channels=1024),
    depth_head=dict(type='DepthHead', depth_range=(1e-3, 80.0)),
    seg_head=dict(type='SemSegHead', num_classes=_base_.num_classes),
    critic=dict(type='WassersteinCritic'),  # None: no critic
)
workers = dict(persistent_workers=True, worker_init_fn=dict(type='end_with_parent'))
train_loader = dict(
    workers,
    batch_size=4,
    num_workers=4,
    sampler=dict(type='PlacedInfiniteSampler'),
)
val_loader = dict(
    workers,
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
load_image_and_labels = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadLabelMap'),
]
# Nearest to the published one: each part with probability 0.5.
photometric = dict(
    type='ColorDistortion',
    brightness_delta=51,
    contrast_range=(0.8, 1.2),
    saturation_range=(0.8, 1.2),
    hue_delta=40,
)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='CriticOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    critic_optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(
        layer_decay_rate=0.9,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(
            logit_scale=dict(decay_mult=0.0), cpb_mlp=dict(decay_mult=0.0)
        ),
    ),
)
model_wrapper_cfg = dict(type='MMSeparateDistributedDataParallel')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    export=dict(out='model.pth', leave_out=['critic.']),
)
visualizer = dict(type='DepthSegVisualizer')
