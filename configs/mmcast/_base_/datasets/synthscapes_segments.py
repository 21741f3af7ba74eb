# Semantic labels of SynthScapes' world domain, as one mask per class.
_base_ = './synthscapes.py'
train_dataloader = dict(
    _delete_=True,
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    worker_init_fn=dict(type='end_with_parent'),
    sampler=dict(type='PlacedInfiniteSampler'),
    dataset=dict(
        type='CityscapesDepthDataset',
        data_root='data/synthscapes/world/',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadLabelMap'),
            *_base_.weak_view[:3],
            dict(type='PackSegments', label_table='cityscapes'),
        ],
    ),
)
