# The supervised batch of 4 labelled images, and 4 unlabelled ones with it.
_base_ = './synthscapes.py'
train_dataloader = dict(
    batch_size=8,
    sampler=dict(
        _delete_=True, type='LabeledUnlabeledSampler', batch_size=8, source_ratio=[1, 1]
    ),
    dataset=dict(
        type='SemiSupervisedDataset',
        unlabeled_dataset=_base_.unlabeled_dataset,
        pseudo_labels=dict(score_thr=0.5),
    ),
)
