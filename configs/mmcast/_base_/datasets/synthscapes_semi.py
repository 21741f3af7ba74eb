# Labelled and unlabelled images in every batch, 2 + 2. Above a score of 0.5 the teacher
# finds about as many instances an image (10) as labelled images have (9); above 0.3 it
# is 16.
_base_ = './synthscapes.py'
train_dataloader = dict(
    sampler=dict(
        _delete_=True, type='LabeledUnlabeledSampler', batch_size=4, source_ratio=[1, 1]
    ),
    dataset=dict(
        type='SemiSupervisedDataset',
        unlabeled_dataset=_base_.unlabeled_dataset,
        pseudo_labels=dict(score_thr=0.5),
    ),
)
