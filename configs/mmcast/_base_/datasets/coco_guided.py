# Guided Distillation's batches, as on Cityscapes: 16 labelled and 16 unlabelled images,
# of all of train2017, for one device.
_base_ = './coco.py'
train_dataloader = dict(
    batch_size=32,
    sampler=dict(
        _delete_=True,
        type='LabeledUnlabeledSampler',
        batch_size=32,
        source_ratio=[1, 1],
        repeat_thr=10.0,
    ),
    dataset=dict(
        type='SemiSupervisedDataset',
        unlabeled_dataset=dict(_base_.unlabeled_dataset, ann_file=''),
        pseudo_labels=None,
    ),
)
