# CAST stage 2 on SynthScapes: the student learns from labels and the frozen teacher.
# The teacher is that of stage 1, step 1: step 2 did not improve it in its one run of
# minutes (README). Reads work_dirs/adapt_synthscapes/teacher.pth;
# leaves work_dirs/distill_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes.py',
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
custom_hooks = [
    dict(
        type='PseudoLabelHook',
        teacher_config='{{ fileDirname }}/adapt_synthscapes.py',
        teacher_checkpoint=teacher + 'teacher.pth',
        made_by='mim train mmdet configs/mmcast/adapt_synthscapes.py',
    ),
    dict(type='StudentExportHook', out='student.pth'),
]
