# COCO's 80 classes, in the order of instances_train2017.json.
_base_ = './instances.py'
# fmt: off
classes = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck',
    'boat', 'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench',
    'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra',
    'giraffe', 'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee',
    'skis', 'snowboard', 'sports ball', 'kite', 'baseball bat', 'baseball glove',
    'skateboard', 'surfboard', 'tennis racket', 'bottle', 'wine glass', 'cup',
    'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange',
    'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch',
    'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse',
    'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink',
    'refrigerator', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier',
    'toothbrush',
)
# fmt: on
num_classes = len(classes)
data_root = 'data/coco/'
images = dict(
    data_root=data_root,
    data_prefix=dict(img='train2017/'),
    metainfo=dict(classes=classes),
)
# Weak augmentation of Guided Distillation: flip, scale of 0.1 to 2 times 1024, crop.
image_size = (1024, 1024)
weak_view = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True
    ),
    dict(type='RandomCrop', crop_size=image_size, allow_negative_crop=True),
    _base_.filter_annotations,
]
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        labeled_dataset=dict(images, ann_file='annotations/instances_train2017.json'),
        weak_view=weak_view,
    ),
)
with_unlabeled = dict(unlabeled_dataset=images)
online = with_unlabeled
test_pipeline = [
    _base_.load_image,
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    *_base_.load_and_pack,
]
val_dataloader = dict(
    dataset=dict(
        images,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
