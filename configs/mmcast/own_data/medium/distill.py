# Own data, size medium, stage 2: RTMDet-Ins-s learns from labels and the teacher.
_base_ = './student.py'
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(dataset=_base_.with_unlabeled)
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook'))
