# As on Cityscapes, 4 labelled and 4 unlabelled images. The unlabelled ones bring their
# annotations along, which nothing learns from: the teacher's precision and recall in
# the log are measured with them. To leave the labelled images out:
# --cfg-options
#   train_dataloader.dataset.unlabeled_dataset.image_list=splits/unlabeled.txt
_base_ = './synthscapes_semi.py'
train_dataloader = dict(
    sampler=dict(repeat_thr=10.0),
    dataset=dict(
        unlabeled_dataset=dict(
            _delete_=True,
            type='ListedCocoDataset',
            data_root=_base_.data_root,
            ann_file='annotations/instancesonly_filtered_gtFine_train.json',
            data_prefix=dict(img='leftImg8bit/train/'),
            metainfo=_base_.metainfo,
        ),
        pseudo_labels=None,
    ),
)
