# CAST stage 1, step 1 on Cityscapes: the pre-trained detector of the foundation-model
# teacher on the labelled split; SAM 2 stays as it is.
# Reads checkpoints/ (docs/teachers.md); leaves work_dirs/adapt_cityscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_grounded_sam2.py',
    './_base_/datasets/cityscapes.py',
    './_base_/datasets/grounding_views.py',
    './_base_/schedules/grounding_dino_1k.py',
    './_base_/default_runtime.py',
]
model = dict(classes=_base_.metainfo.classes)
train_dataloader = dict(dataset=dict(weak_view=_base_.grounding_view))
val_dataloader = dict(dataset=dict(pipeline=_base_.grounding_test_pipeline))
test_dataloader = val_dataloader
custom_hooks = [
    dict(type='StageInputsHook', inputs=_base_.teacher_inputs),
    dict(type='StudentExportHook', out='teacher.pth', attr=''),
]
