# Guided Distillation's batches, 16 labelled and 16 unlabelled images, which is for one
# device: with N of them give both batch sizes below divided by N. Rare classes' images
# come more often. The unlabelled images are all of the training set, the labelled ones
# too; to leave these out:
# --cfg-options
#   train_dataloader.dataset.unlabeled_dataset.ann_file=splits/10pct/unlabeled.txt
_base_ = './cityscapes_semi.py'
train_dataloader = dict(
    batch_size=32,
    sampler=dict(batch_size=32, repeat_thr=10.0),
    dataset=dict(unlabeled_dataset=dict(ann_file=''), pseudo_labels=None),
)
