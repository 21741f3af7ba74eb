# An option before CAST stage 1 on Cityscapes: train SAM 2.1's prompt encoder and mask
# decoder on annotated boxes. Reads checkpoints/ (docs/teachers.md);
# leaves work_dirs/adapt_sam2_cityscapes/segmenter.pth. adapt_cityscapes.py starts with
# it by --cfg-options model.segmenter.init_cfg.checkpoint=FILE.
_base_ = [
    './_base_/models/sam2_large.py',
    './_base_/datasets/cityscapes_boxes.py',
    './_base_/schedules/sam2_15k.py',
    './_base_/teacher_runtime.py',
]
default_hooks = dict(export=dict(out='segmenter.pth'))
work_dir = _base_.out and f'{_base_.out}/adapt_sam2_cityscapes'
