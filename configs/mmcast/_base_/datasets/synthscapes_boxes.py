# SynthScapes' world domain, all labelled, in the images' own size. Evaluated on
# annotated boxes.
_base_ = './synthscapes.py'
data_root = 'data/synthscapes/world/'
weak_view = [
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    _base_.filter_annotations,
]
train_dataloader = dict(
    batch_size=6,
    dataset=dict(
        labeled_dataset=dict(data_root=data_root, image_list=None), weak_view=weak_view
    ),
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + _base_.annotations + 'val.json')
test_evaluator = val_evaluator
