# Labelled and unlabelled images in every batch, 4 + 4 (the paper gives no ratio).
_base_ = './ade20k.py'
train_dataloader = dict(
    sampler=dict(
        _delete_=True, type='LabeledUnlabeledSampler', batch_size=8, source_ratio=[1, 1]
    ),
    dataset=dict(
        type='SemiSupervisedDataset',
        unlabeled_dataset=_base_.unlabeled_dataset,
        pseudo_labels=dict(score_thr=0.3),
    ),
)
