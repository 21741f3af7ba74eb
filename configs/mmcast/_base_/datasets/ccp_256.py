# The photographs as the student sees them: a long side of 256 pixels, and of 179 to 282
# in training.
_base_ = './ccp.py'
size = (256, 256)
resize, crop, *rest = _base_.train_dataloader.dataset.weak_view
weak_view = [dict(resize, scale=size), dict(crop, crop_size=size), *rest]
train_dataloader = dict(batch_size=4, dataset=dict(weak_view=weak_view))
pipeline = [
    _base_.load_image,
    dict(type='Resize', scale=size, keep_ratio=True),
    *_base_.load_and_pack,
]
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
