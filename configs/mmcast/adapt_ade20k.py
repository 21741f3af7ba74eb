# CAST stage 1, step 1 on ADE20K: the pre-trained detector of the foundation-model
# teacher on the labelled split; SAM 2 stays as it is.
# Reads checkpoints/ (docs/teachers.md); leaves work_dirs/adapt_ade20k/teacher.pth.
# The research code went from 1,000 to 3,000 to 10,000 iterations and left the steps of
# the learning rate at 2,000 and 2,500; 3,000 is where they fit.
_base_ = [
    './_base_/models/teacher_grounded_sam2.py',
    './_base_/datasets/ade20k.py',
    './_base_/datasets/grounding_views.py',
    './_base_/schedules/grounding_dino_1k.py',
    './_base_/default_runtime.py',
]
model = dict(classes=_base_.metainfo.classes)
train_dataloader = dict(dataset=dict(weak_view=_base_.grounding_view))
test_pipeline = [
    *_base_.grounding_test_pipeline[:2],
    dict(type='Resize', scale=(2560, 640), keep_ratio=True),
    *_base_.grounding_test_pipeline[3:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
max_iters = 3000
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[2000, 2500],
        gamma=0.1,
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=1000)
custom_hooks = [
    dict(type='StageInputsHook', inputs=_base_.teacher_inputs),
    dict(type='StudentExportHook', out='teacher.pth', attr=''),
]
