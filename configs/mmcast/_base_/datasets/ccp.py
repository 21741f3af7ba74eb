# Photographs of Clothing Co-Parsing, 384 pixels on the long side, as
# tools/dataset_converters/ccp.py writes them. SPLIT=180_2 has 180 labels of draw 2;
# there are 30, 60 and 180 labels of draws 0 to 2.
_base_ = './own_data_small.py'
split = 'splits/{{$SPLIT:60_0}}/'
# fmt: off
classes = (
    'hair', 'footwear', 'bag', 'eyewear', 'hat', 'dress', 'top', 'outerwear',
    'trousers', 'skirt', 'hosiery', 'scarf',
)
# fmt: on
data_root = 'data/ccp/'
images = dict(
    data_root=data_root,
    data_prefix=dict(img='images/train/'),
    metainfo=dict(classes=classes),
)
train_dataloader = dict(
    dataset=dict(
        labeled_dataset=dict(
            images,
            ann_file='annotations/train.json',
            image_list=split + 'labeled.txt',
        )
    )
)
unlabeled = dict(images, ann_file=split + 'unlabeled.txt')
# Labels are merged from four views, which lowers their scores: 0.45 has the best F1.
with_unlabeled = dict(unlabeled_dataset=unlabeled, pseudo_labels=dict(score_thr=0.45))
labelled_by = dict(type='PseudoLabelHook', views=dict(flip=True, scales=[1.0, 1.25]))
online = dict(unlabeled_dataset=unlabeled)
val_dataloader = dict(
    dataset=dict(
        images, ann_file='annotations/val.json', data_prefix=dict(img='images/val/')
    )
)
test_dataloader = dict(
    dataset=dict(
        images, ann_file='annotations/test.json', data_prefix=dict(img='images/test/')
    )
)
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/test.json')
