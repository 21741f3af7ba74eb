# CAST stage 1, step 2 on ADE20K: the pre-trained detector again, with the
# pseudo-labels of step 1; 10,000 iterations at a total batch of 4.
# Reads checkpoints/ and work_dirs/adapt_ade20k/teacher.pth;
# leaves work_dirs/selftrain_ade20k/teacher.pth.
_base_ = [
    './_base_/models/teacher_grounded_sam2.py',
    './_base_/datasets/ade20k_semi.py',
    './_base_/datasets/grounding_views.py',
    './_base_/schedules/grounding_dino_1k.py',
    './_base_/default_runtime.py',
]
model = dict(
    _delete_=True,
    type='SemiSupervisedSegmentor',
    student=dict(_base_.model, classes=_base_.metainfo.classes),
    semi_weight=1.0,  # lambda_semi
    data_preprocessor=dict(
        type='MultiBranchDataPreprocessor',
        data_preprocessor=_base_.model.data_preprocessor,
    ),
)
teacher = 'work_dirs/adapt_ade20k/'
train_dataloader = dict(
    batch_size=4,
    sampler=dict(batch_size=4),
    dataset=dict(
        weak_view=_base_.grounding_view,
        pseudo_labels=dict(store=teacher + 'pseudo_labels'),
    ),
)
test_pipeline = [
    *_base_.grounding_test_pipeline[:2],
    dict(type='Resize', scale=(2560, 640), keep_ratio=True),
    *_base_.grounding_test_pipeline[3:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
max_iters = 10000
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[6000, 9000],
        gamma=0.1,
    )
]
train_cfg = dict(max_iters=max_iters, val_interval=2500)
auto_scale_lr = dict(base_batch_size=4)
custom_hooks = [
    dict(type='StageInputsHook', inputs=_base_.teacher_inputs),
    dict(
        type='PseudoLabelHook',
        teacher_config='{{ fileDirname }}/adapt_ade20k.py',
        teacher_checkpoint=teacher + 'teacher.pth',
        made_by='mim train mmdet configs/mmcast/adapt_ade20k.py',
    ),
    dict(type='StudentExportHook', out='teacher.pth'),
]
