# Cityscapes' instances: where things lie and how they are augmented. The labelled
# and unlabelled lists come from tools/misc/split_labels.py (docs/data.md).
data_root = 'data/cityscapes/'
split = 'splits/10pct/'
metainfo = dict(
    classes=(
        'person',
        'rider',
        'car',
        'truck',
        'bus',
        'train',
        'motorcycle',
        'bicycle',
    )
)
crop_size = (1024, 512)  # width, height

# Weak augmentation of the research code: shortest edge of 0.5 to 2 times 1024,
# crop, colour distortion, flip.
weak_view = [
    dict(
        type='RandomChoiceResize',
        scales=[int(1024 * 0.1 * k) for k in range(5, 21)],
        resize_type='ResizeShortestEdge',
        max_size=4096,
    ),
    dict(type='RandomCrop', crop_size=crop_size, allow_negative_crop=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-5, 1e-5),
        by_mask=True,
        keep_empty=False,
    ),
]
labeled_dataset = dict(
    type='ListedCocoDataset',
    data_root=data_root,
    ann_file='annotations/instancesonly_filtered_gtFine_train.json',
    image_list=split + 'labeled.txt',
    data_prefix=dict(img='leftImg8bit/train/'),
    metainfo=metainfo,
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
)
unlabeled_dataset = dict(
    type='ImageListDataset',
    data_root=data_root,
    ann_file=split + 'unlabeled.txt',
    data_prefix=dict(img='leftImg8bit/train/'),
    metainfo=metainfo,
)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='LabeledDataset', labeled_dataset=labeled_dataset, weak_view=weak_view
    ),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ListedCocoDataset',
        data_root=data_root,
        ann_file='annotations/instancesonly_filtered_gtFine_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='CocoMetric',
        ann_file=data_root + 'annotations/instancesonly_filtered_gtFine_val.json',
        metric='segm',
    ),
    dict(
        type='CityScapesMetric',
        seg_prefix=data_root + 'gtFine/val',
        outfile_prefix=None,  # a temporary folder
    ),
]
test_evaluator = val_evaluator
