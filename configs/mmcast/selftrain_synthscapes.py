# CAST stage 1, step 2 on SynthScapes: train the pre-trained teacher again, with
# pseudo-labels.
# Reads work_dirs/adapt_synthscapes/teacher.pth;
# leaves work_dirs/selftrain_synthscapes/teacher.pth.
_base_ = './adapt_synthscapes.py'
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(batch_size=8, dataset=_base_.with_unlabeled)
default_hooks = dict(pseudo_labels=_base_.labels_of_adapted)
train_cfg = dict(max_iters=300)
