# Cityscapes for SAM 2. It learns from images and masks stretched to its square. It is
# evaluated on annotated boxes in the images' own size.
_base_ = './cityscapes.py'
weak_view = [
    dict(type='Resize', scale=(1024, 1024), keep_ratio=False),
    _base_.filter_annotations,
]
train_dataloader = dict(batch_size=1, dataset=dict(weak_view=weak_view))
val_dataloader = dict(dataset=dict(pipeline=[_base_.load_image, *_base_.load_and_pack]))
test_dataloader = val_dataloader
