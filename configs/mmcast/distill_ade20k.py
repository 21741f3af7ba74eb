# CAST stage 2 on ADE20K: the student learns from labels and the frozen teacher.
# Reads work_dirs/selftrain_ade20k/teacher.pth;
# leaves work_dirs/distill_ade20k/student.pth.
_base_ = [
    './_base_/models/student_dpt256_ade20k.py',
    './_base_/datasets/ade20k_semi.py',
    './_base_/schedules/ade20k_160k.py',
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
teacher = 'ade20k'  # 'ade20k_mask2former' for the other one
train_dataloader = dict(
    dataset=dict(
        pseudo_labels=dict(store=f'work_dirs/selftrain_{teacher}/pseudo_labels')
    )
)
custom_hooks = [
    dict(
        type='PseudoLabelHook',
        teacher_config='{{ fileDirname }}/' + f'adapt_{teacher}.py',
        teacher_checkpoint=f'work_dirs/selftrain_{teacher}/teacher.pth',
        made_by=f'mim train mmdet configs/mmcast/selftrain_{teacher}.py',
    ),
    dict(type='StudentExportHook', out='student.pth'),
]
