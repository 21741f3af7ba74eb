# Own data, size medium, stage 2: ResNet-50 with DPT learns from labels and the teacher.
_base_ = [
    '../../_base_/models/student_r50_dpt.py',
    '../../_base_/datasets/ade20k.py',
    '../../_base_/schedules/ade20k_160k.py',
    '../../_base_/default_runtime.py',
]
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(dataset=_base_.with_unlabeled)
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook'))
train_cfg = dict(max_iters=20000, val_interval=5000)
