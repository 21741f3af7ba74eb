# ADE20K's 100 instance classes, as mmdet's ADE20KInstanceDataset orders them.
_base_ = './instances.py'
# fmt: off
classes = (
    'bed', 'windowpane', 'cabinet', 'person', 'door', 'table', 'curtain', 'chair',
    'car', 'painting', 'sofa', 'shelf', 'mirror', 'armchair', 'seat', 'fence',
    'desk', 'wardrobe', 'lamp', 'bathtub', 'railing', 'cushion', 'box', 'column',
    'signboard', 'chest of drawers', 'counter', 'sink', 'fireplace', 'refrigerator',
    'stairs', 'case', 'pool table', 'pillow', 'screen door', 'bookcase',
    'coffee table', 'toilet', 'flower', 'book', 'bench', 'countertop', 'stove',
    'palm', 'kitchen island', 'computer', 'swivel chair', 'boat', 'arcade machine',
    'bus', 'towel', 'light', 'truck', 'chandelier', 'awning', 'streetlight',
    'booth', 'television receiver', 'airplane', 'apparel', 'pole', 'bannister',
    'ottoman', 'bottle', 'van', 'ship', 'fountain', 'washer', 'plaything', 'stool',
    'barrel', 'basket', 'bag', 'minibike', 'oven', 'ball', 'food', 'step',
    'trade name', 'microwave', 'pot', 'animal', 'bicycle', 'dishwasher', 'screen',
    'sculpture', 'hood', 'sconce', 'vase', 'traffic light', 'tray', 'ashcan', 'fan',
    'plate', 'monitor', 'bulletin board', 'radiator', 'glass', 'clock', 'flag',
)
# fmt: on
num_classes = len(classes)
data_root = 'data/ADEChallengeData2016/'
images = dict(
    data_root=data_root,
    data_prefix=dict(img='images/training/'),
    metainfo=dict(classes=classes),
)
# Weak augmentation of the research code: shortest edge of 0.5 to 2 times 630, crop,
# colour distortion, flip.
weak_view = [
    dict(
        type='RandomChoiceResize',
        scales=[int(630 * 0.1 * k) for k in range(5, 21)],
        resize_type='ResizeShortestEdge',
        max_size=2560,
    ),
    dict(type='RandomCrop', crop_size=(630, 630), allow_negative_crop=True),
    dict(type='ColorDistortion', hue_delta=36),
    dict(type='RandomFlip', prob=0.5),
    _base_.filter_annotations,
]
train_dataloader = dict(
    dataset=dict(
        labeled_dataset=dict(images, ann_file='ade20k_instance_train.json'),
        weak_view=weak_view,
    )
)
with_unlabeled = dict(unlabeled_dataset=images)
online = with_unlabeled
test_pipeline = [
    _base_.load_image,
    dict(type='Resize', scale=(2560, 630), keep_ratio=True),
    *_base_.load_and_pack,
]
val_dataloader = dict(
    dataset=dict(
        images,
        ann_file='ade20k_instance_val.json',
        data_prefix=dict(img='images/validation/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'ade20k_instance_val.json')
test_evaluator = val_evaluator
