# SynthScapes' target domain at 128x256, as `make quickstart` generates it.
_base_ = './cityscapes.py'
data_root = 'data/synthscapes/target/'
weak_view = [
    dict(
        type='RandomResize', scale=(256, 128), ratio_range=(0.9, 1.4), keep_ratio=True
    ),
    dict(type='RandomCrop', crop_size=(256, 128), allow_negative_crop=True),
    dict(type='RandomFlip', prob=0.5),
    _base_.filter_annotations,
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        labeled_dataset=dict(
            data_root=data_root,
            image_list='splits/labeled.txt',
            filter_cfg=dict(min_size=0),
        ),
        weak_view=weak_view,
    ),
)
with_unlabeled = dict(
    unlabeled_dataset=dict(data_root=data_root, ann_file='splits/unlabeled.txt'),
    # Without rims of second masks, and at the score with the best F1 of the labels.
    pseudo_labels=dict(score_thr=0.6, min_left=0.8),
)
one_labeled_in_eight = dict(batch_size=8, sampler=dict(source_ratio=[1, 7]))
labels_of_adapted = dict(
    type='PseudoLabelHook', teacher='work_dirs/adapt_synthscapes/teacher.pth'
)
# Unlabelled images have annotations here. Nothing learns from them, but the log needs
# them for the teacher's precision and recall.
online = dict(
    unlabeled_dataset=dict(
        type='ListedCocoDataset',
        data_root=data_root,
        ann_file=_base_.annotations + 'train.json',
    )
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        data_root=data_root, pipeline=[_base_.load_image, *_base_.load_and_pack]
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='WindowedCocoMetric',
    metric='segm',
    ann_file=data_root + _base_.annotations + 'val.json',
)
test_evaluator = val_evaluator
