# CAST stage 1, step 1 on COCO: train the pre-trained detector of the foundation-model
# teacher on the labelled split. SAM 2 stays as it is. The detector is the one with
# Swin-T: the larger ones were pre-trained on COCO's labels, too.
# Reads checkpoints/ (docs/teachers.md); leaves work_dirs/adapt_coco/teacher.pth.
_base_ = [
    './_base_/models/teacher_grounded_sam2_swin_t.py',
    './_base_/datasets/coco_grounding.py',
    './_base_/schedules/grounding_dino_3k.py',
    './_base_/teacher_runtime.py',
]
model = dict(classes=_base_.images.metainfo.classes)
work_dir = _base_.out and f'{_base_.out}/adapt_coco'
