# CAST stage 1, step 2 on SynthScapes: the pre-trained teacher again, with
# pseudo-labels.
# Reads work_dirs/adapt_synthscapes/teacher.pth;
# leaves work_dirs/selftrain_synthscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_synthscapes.py',
    './_base_/datasets/synthscapes_semi.py',
    './_base_/schedules/synthscapes.py',
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
teacher = 'work_dirs/adapt_synthscapes/'
train_dataloader = dict(
    dataset=dict(pseudo_labels=dict(store=teacher + 'pseudo_labels'))
)
max_iters = 300
optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters)
custom_hooks = [
    dict(
        type='PseudoLabelHook',
        teacher_config='{{ fileDirname }}/adapt_synthscapes.py',
        teacher_checkpoint=teacher + 'teacher.pth',
        made_by='mim train mmdet configs/mmcast/adapt_synthscapes.py',
    ),
    dict(type='StudentExportHook', out='teacher.pth'),
]
