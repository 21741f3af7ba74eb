# CAST stage 1, step 2 on Cityscapes with another teacher, a Mask2Former with Swin-L:
# the pre-trained teacher again, with pseudo-labels.
# Reads work_dirs/adapt_cityscapes_mask2former/teacher.pth;
# leaves work_dirs/selftrain_cityscapes_mask2former/teacher.pth.
_base_ = [
    './_base_/models/teacher_swin_l.py',
    './_base_/datasets/cityscapes_semi.py',
    './_base_/schedules/cityscapes_90k.py',
    './_base_/default_runtime.py',
]
model = dict(
    _delete_=True,
    type='SemiSupervisedSegmentor',
    student=_base_.model,
    semi_weight=1.0,  # lambda_semi
    data_preprocessor=dict(
        type='MultiBranchDataPreprocessor',
        data_preprocessor=_base_.model.data_preprocessor,
    ),
)
teacher = 'work_dirs/adapt_cityscapes_mask2former/'
train_dataloader = dict(
    dataset=dict(pseudo_labels=dict(store=teacher + 'pseudo_labels'))
)
custom_hooks = [
    dict(
        type='StageInputsHook',
        inputs={
            _base_.coco_weights: 'mim download mmdet --config '
            'mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic '
            '--dest checkpoints'
        },
    ),
    dict(
        type='PseudoLabelHook',
        teacher_config='{{ fileDirname }}/adapt_cityscapes_mask2former.py',
        teacher_checkpoint=teacher + 'teacher.pth',
        made_by='mim train mmdet configs/mmcast/adapt_cityscapes_mask2former.py',
    ),
    dict(type='StudentExportHook', out='teacher.pth'),
]
