# A user's own images for the detectors of size small: a long side of 384 pixels in
# testing, and of 269 to 422 in training. The stage's config gives files and classes.
_base_ = './instances.py'
size = (384, 384)
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    dataset=dict(
        labeled_dataset=dict(filter_cfg=dict(min_size=0)),
        weak_view=[
            dict(
                type='RandomResize', scale=size, ratio_range=(0.7, 1.1), keep_ratio=True
            ),
            dict(type='RandomCrop', crop_size=size, allow_negative_crop=True),
            dict(type='RandomFlip', prob=0.5),
            _base_.filter_annotations,
        ],
    ),
)
with_unlabeled = dict(
    unlabeled_dataset=dict(ann_file=''),
    pseudo_labels=dict(score_thr=0.6, min_left=0.5, boxes='stored'),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        pipeline=[
            _base_.load_image,
            dict(type='Resize', scale=size, keep_ratio=True),
            *_base_.load_and_pack,
        ]
    ),
)
test_dataloader = val_dataloader
