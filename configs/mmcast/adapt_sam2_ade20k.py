# SAM 2.1 on ADE20K's annotated boxes, prompt encoder and mask decoder alone: a choice
# beside stage 1. Reads checkpoints/ (docs/teachers.md);
# leaves work_dirs/adapt_sam2_ade20k/segmenter.pth, with which the teacher starts by
# --cfg-options model.segmenter.init_cfg.checkpoint=FILE in adapt_ade20k.py.
_base_ = [
    './_base_/models/sam2_large.py',
    './_base_/datasets/ade20k.py',
    './_base_/datasets/grounding_views.py',
    './_base_/schedules/sam2_15k.py',
    './_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=1, dataset=dict(weak_view=_base_.box_prompt_view))
val_dataloader = dict(dataset=dict(pipeline=_base_.box_prompt_test_pipeline))
test_dataloader = val_dataloader
max_iters = 100000  # 50 epochs of 2,000 images
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=20000)
custom_hooks = [
    dict(type='StageInputsHook', inputs=_base_.segmenter_inputs),
    dict(type='StudentExportHook', out='segmenter.pth', attr=''),
]
