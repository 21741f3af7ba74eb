# CAST stage 2 on ADE20K: the student learns from labels and the frozen teacher.
# Reads work_dirs/selftrain_ade20k/teacher.pth;
# leaves work_dirs/distill_ade20k/student.pth.
_base_ = [
    './_base_/models/student_{{$STUDENT:dpt256}}.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_160k.py',
    './_base_/default_runtime.py',
]
student = dict(_base_.model, num_classes=_base_.num_classes)
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=student)
train_dataloader = dict(dataset=_base_.with_unlabeled)
teacher = f'{_base_.root}/selftrain_ade20k/teacher.pth'
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook', teacher=teacher))
work_dir = _base_.out and f'{_base_.out}/distill_ade20k'
