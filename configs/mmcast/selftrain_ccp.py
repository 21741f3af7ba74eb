# CAST stage 1, step 2 on photographs: train the teacher again, with pseudo-labels.
# Reads work_dirs/adapt_ccp/teacher.pth; leaves work_dirs/selftrain_ccp/teacher.pth.
_base_ = './adapt_ccp.py'
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(batch_size=4, dataset=_base_.with_unlabeled)
teacher = f'{_base_.root}/adapt_ccp/teacher.pth'
default_hooks = dict(pseudo_labels=dict(_base_.labelled_by, teacher=teacher))
