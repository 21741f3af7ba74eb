# Semantic labels of SynthScapes' world domain, as one mask per class.
_base_ = './synthscapes.py'
train_dataloader = dict(
    batch_size=8,
    sampler=dict(_delete_=True, type='PlacedInfiniteSampler'),
    dataset=dict(
        _delete_=True,
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
