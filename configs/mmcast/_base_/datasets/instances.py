# Loaders and evaluation for all data sets. A data set adds paths, classes, its weak
# view and its test size. SPLIT is a switch (default_runtime.py). The lists come from
# mmcast split (docs/data.md).
split = 'splits/{{$SPLIT:10pct}}/'
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    worker_init_fn=dict(type='end_with_parent'),
    # Half labelled, half unlabelled, if there are both (the paper gives no ratio).
    sampler=dict(type='LabeledUnlabeledSampler', source_ratio=[1, 1]),
    dataset=dict(
        type='SemiSupervisedDataset',
        labeled_dataset=dict(
            type='ListedCocoDataset',
            image_list=split + 'labeled.txt',
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
        ),
    ),
)
# To learn from unlabelled images, an entry point has the line train_dataloader =
# dict(dataset=_base_.with_unlabeled). If a teacher labels each batch, the line has
# _base_.online: then all images count as unlabelled, the labelled ones too, as in
# Guided Distillation's code (leave_out_labeled=True leaves these out).
with_unlabeled = dict(
    unlabeled_dataset=dict(type='ImageListDataset', ann_file=split + 'unlabeled.txt'),
    pseudo_labels=dict(score_thr=0.3),
)
online = dict(
    leave_out_labeled=False,
    unlabeled_dataset=dict(type='ImageListDataset', ann_file=''),
)
filter_annotations = dict(
    type='FilterAnnotations',
    min_gt_bbox_wh=(1e-5, 1e-5),
    by_mask=True,
    keep_empty=False,
)
load_image = dict(type='LoadImageFromFile')
load_and_pack = [
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
    worker_init_fn=dict(type='end_with_parent'),
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ListedCocoDataset', test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='WindowedCocoMetric', metric='segm')
test_evaluator = val_evaluator
