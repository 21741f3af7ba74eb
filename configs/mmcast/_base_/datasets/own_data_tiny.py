# A user's own images for SynthScapes' small models: a long side of about 192 pixels in
# training, and of 192 in testing. The stage's config gives files and classes.
_base_ = './instances.py'
size = (192, 192)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        labeled_dataset=dict(filter_cfg=dict(min_size=0)),
        weak_view=[
            dict(
                type='RandomResize',
                scale=size,
                ratio_range=(0.8, 1.25),
                keep_ratio=True,
            ),
            dict(type='RandomCrop', crop_size=size, allow_negative_crop=True),
            dict(type='RandomFlip', prob=0.5),
            _base_.filter_annotations,
        ],
    ),
)
with_unlabeled = dict(
    unlabeled_dataset=dict(ann_file=''), pseudo_labels=dict(score_thr=0.5, min_left=0.8)
)
val_dataloader = dict(
    batch_size=4,
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
