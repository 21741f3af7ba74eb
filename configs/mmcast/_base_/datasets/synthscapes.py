# SynthScapes' target domain at 128x256, as `make quickstart` generates it.
_base_ = './cityscapes.py'
data_root = 'data/synthscapes/target/'
split = 'splits/'
weak_view = [
    dict(
        type='RandomResize', scale=(256, 128), ratio_range=(0.9, 1.4), keep_ratio=True
    ),
    dict(type='RandomCrop', crop_size=(256, 128), allow_negative_crop=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-5, 1e-5),
        by_mask=True,
        keep_empty=False,
    ),
]
labeled_dataset = dict(
    data_root=data_root,
    image_list=split + 'labeled.txt',
    filter_cfg=dict(min_size=0),
)
unlabeled_dataset = dict(data_root=data_root, ann_file=split + 'unlabeled.txt')
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(labeled_dataset=labeled_dataset, weak_view=weak_view),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape'),
    ),
]
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='CocoMetric',
    ann_file=data_root + 'annotations/instancesonly_filtered_gtFine_val.json',
    metric='segm',
)
test_evaluator = val_evaluator
