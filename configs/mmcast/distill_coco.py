# CAST stage 2 on COCO: the student learns from labels and the frozen teacher.
# Reads work_dirs/selftrain_coco/teacher.pth;
# leaves work_dirs/distill_coco/student.pth.
_base_ = './_base_/student_on_coco.py'
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(dataset=_base_.with_unlabeled)
teacher = (
    f'{_base_.root}/selftrain_coco/teacher.pth'
    if _base_.teacher_name == 'default'
    else f'work_dirs/{_base_.teacher_name}_coco/pseudo_labels'
)
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook', teacher=teacher))
work_dir = _base_.out and f'{_base_.out}/distill_coco'
