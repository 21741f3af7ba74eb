# CAST stage 1, step 1 on ADE20K with another teacher: a Mask2Former with Swin-L,
# pre-trained on COCO, on the labelled split.
# Reads checkpoints/ (the COCO weights);
# leaves work_dirs/adapt_ade20k_mask2former/teacher.pth.
_base_ = [
    './_base_/models/teacher_swin_l_ade20k.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_160k.py',
    './_base_/default_runtime.py',
]
custom_hooks = [
    dict(
        type='StageInputsHook',
        inputs={
            _base_.coco_weights: 'mim download mmdet --config '
            'mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic '
            '--dest checkpoints'
        },
    ),
    dict(type='StudentExportHook', out='teacher.pth', attr=''),
]
