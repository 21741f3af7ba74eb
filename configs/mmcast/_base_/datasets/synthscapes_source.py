# SynthScapes' source domain, all labelled. The quickstart's stand-in for a foundation
# model learns from it. Distorted colours help a little in another domain.
_base_ = './synthscapes.py'
data_root = 'data/synthscapes/source/'
weak_view = [
    *_base_.weak_view[:2],
    dict(type='PhotoMetricDistortion'),
    *_base_.weak_view[2:],
]
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        labeled_dataset=dict(data_root=data_root, image_list=None), weak_view=weak_view
    ),
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + _base_.annotations + 'val.json')
test_evaluator = val_evaluator
