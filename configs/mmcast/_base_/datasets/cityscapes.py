# Cityscapes' instances.
_base_ = './instances.py'
data_root = 'data/cityscapes/'
annotations = 'annotations/instancesonly_filtered_gtFine_'
metainfo = dict(
    classes=(
        *('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle'),
    )
)
num_classes = len(metainfo['classes'])
images = dict(
    data_root=data_root, data_prefix=dict(img='leftImg8bit/train/'), metainfo=metainfo
)
# Weak augmentation of the research code: shortest edge of 0.5 to 2 times 1024,
# crop, colour distortion, flip.
weak_view = [
    dict(
        type='RandomChoiceResize',
        scales=[int(1024 * 0.1 * k) for k in range(5, 21)],
        resize_type='ResizeShortestEdge',
        max_size=4096,
    ),
    dict(type='RandomCrop', crop_size=(1024, 512), allow_negative_crop=True),
    dict(type='ColorDistortion', hue_delta=36),
    dict(type='RandomFlip', prob=0.5),
    _base_.filter_annotations,
]
train_dataloader = dict(
    dataset=dict(
        labeled_dataset=dict(images, ann_file=annotations + 'train.json'),
        weak_view=weak_view,
    )
)
with_unlabeled = dict(unlabeled_dataset=images)
online = with_unlabeled
test_pipeline = [
    _base_.load_image,
    dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
    *_base_.load_and_pack,
]
val_dataloader = dict(
    dataset=dict(
        images,
        ann_file=annotations + 'val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(_base_.val_evaluator, ann_file=data_root + annotations + 'val.json'),
    dict(
        type='SharedCityScapesMetric',
        seg_prefix=data_root + 'gtFine/val',
    ),
]
test_evaluator = val_evaluator
