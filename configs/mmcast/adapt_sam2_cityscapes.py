# SAM 2.1 on Cityscapes' annotated boxes, prompt encoder and mask decoder alone: a
# choice beside stage 1. Reads checkpoints/ (docs/teachers.md);
# leaves work_dirs/adapt_sam2_cityscapes/segmenter.pth, with which the teacher starts by
# --cfg-options model.segmenter.init_cfg.checkpoint=FILE in adapt_cityscapes.py.
_base_ = [
    './_base_/models/sam2_large.py',
    './_base_/datasets/cityscapes.py',
    './_base_/datasets/grounding_views.py',
    './_base_/schedules/sam2_15k.py',
    './_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=1, dataset=dict(weak_view=_base_.box_prompt_view))
val_dataloader = dict(dataset=dict(pipeline=_base_.box_prompt_test_pipeline))
test_dataloader = val_dataloader
custom_hooks = [
    dict(type='StageInputsHook', inputs=_base_.segmenter_inputs),
    dict(type='StudentExportHook', out='segmenter.pth', attr=''),
]
