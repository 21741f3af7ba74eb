# CAST stage 1, step 1 on Cityscapes: train the pre-trained detector of the
# foundation-model teacher on the labelled split. SAM 2 stays as it is.
# Reads checkpoints/ (docs/teachers.md); leaves work_dirs/adapt_cityscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_grounded_sam2.py',
    './_base_/datasets/cityscapes_grounding.py',
    './_base_/schedules/grounding_dino_1k.py',
    './_base_/teacher_runtime.py',
]
model = dict(classes=_base_.images.metainfo.classes)
work_dir = _base_.out and f'{_base_.out}/adapt_cityscapes'
