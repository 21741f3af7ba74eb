# Own data, size medium: train Mask2Former again, with pseudo-labels.
_base_ = './adapt.py'
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(dataset=_base_.with_unlabeled)
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook'))
train_cfg = dict(max_iters=10000, val_interval=2500)
