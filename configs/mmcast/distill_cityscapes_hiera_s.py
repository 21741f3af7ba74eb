# CAST stage 2 on Cityscapes with another student: SAM 2.1's Hiera-S with DPT
# (CAST, Table 5). Reads checkpoints/ besides (docs/teachers.md).
_base_ = [
    './_base_/models/student_hiera_s_dpt.py',
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
teacher = 'cityscapes'  # 'cityscapes_mask2former' for the other one
train_dataloader = dict(
    dataset=dict(
        pseudo_labels=dict(store=f'work_dirs/selftrain_{teacher}/pseudo_labels')
    )
)
custom_hooks = [
    dict(
        type='StageInputsHook',
        inputs={
            _base_.hiera_weights: 'hf download facebook/sam2.1-hiera-small '
            'model.safetensors --local-dir checkpoints/sam2.1-hiera-small'
        },
    ),
    dict(
        type='PseudoLabelHook',
        teacher_config='{{ fileDirname }}/' + f'adapt_{teacher}.py',
        teacher_checkpoint=f'work_dirs/selftrain_{teacher}/teacher.pth',
        made_by=f'mim train mmdet configs/mmcast/selftrain_{teacher}.py',
    ),
    dict(type='StudentExportHook', out='student.pth'),
]
