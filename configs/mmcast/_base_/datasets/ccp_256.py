# The photographs as the student sees them: a long side of 256 pixels, and of 179 to 282
# in training.
_base_ = './ccp.py'
size = (256, 256)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        weak_view=[
            dict(
                type='RandomResize', scale=size, ratio_range=(0.7, 1.1), keep_ratio=True
            ),
            dict(type='RandomCrop', crop_size=size, allow_negative_crop=True),
            dict(type='RandomFlip', prob=0.5),
            _base_.filter_annotations,
        ]
    ),
)
pipeline = [
    _base_.load_image,
    dict(type='Resize', scale=size, keep_ratio=True),
    *_base_.load_and_pack,
]
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
