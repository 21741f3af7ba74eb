# ADE20K for Grounding-DINO.
_base_ = ['./ade20k.py', './grounding_views.py']
train_dataloader = dict(dataset=dict(weak_view=_base_.grounding_view))
with_unlabeled = dict(pseudo_labels=_base_.box_labels)
test_pipeline = [
    *_base_.load_and_keep,
    dict(type='Resize', scale=(2560, 640), keep_ratio=True),
    *_base_.annotate_and_pack,
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
