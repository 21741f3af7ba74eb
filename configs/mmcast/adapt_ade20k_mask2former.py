# CAST stage 1, step 1 on ADE20K with another teacher: train a Mask2Former with
# Swin-L, pre-trained on COCO, on the labelled split.
# Reads checkpoints/ (the COCO weights);
# leaves work_dirs/adapt_ade20k_mask2former/teacher.pth.
_base_ = [
    './_base_/models/teacher_mask2former_swin_l.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_160k.py',
    './_base_/teacher_runtime.py',
]
model = dict(num_classes=_base_.num_classes)
work_dir = _base_.out and f'{_base_.out}/adapt_ade20k_mask2former'
