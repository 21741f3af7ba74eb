# COCO for Grounding-DINO.
_base_ = ['./coco.py', './grounding_views.py']
train_dataloader = dict(batch_size=8, dataset=dict(weak_view=_base_.grounding_view))
with_unlabeled = dict(pseudo_labels=_base_.box_labels)
test_pipeline = [
    *_base_.load_and_keep,
    dict(type='FixScaleResize', scale=(800, 1333), keep_ratio=True, backend='pillow'),
    *_base_.annotate_and_pack,
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
