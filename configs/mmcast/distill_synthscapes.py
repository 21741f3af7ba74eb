# CAST stage 2 on SynthScapes: the student learns from labels and the frozen teacher.
# A batch has 1 labelled and 7 unlabelled images, which weigh the same: the loss is
# 8 x (mean over the images + 0.1 x contrast). With half of the weight, 10 labelled
# images are learnt by heart and hold the student back (docs/results_tables.md).
# The teacher comes from stage 1, step 1: step 2 does not improve it, with three seeds.
# Reads work_dirs/adapt_synthscapes/teacher.pth;
# leaves work_dirs/distill_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes_distilled.py',
    './_base_/datasets/synthscapes.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
model = dict(
    _delete_=True, type='SemiSupervisedSegmentor', student=_base_.model, semi_weight=7.0
)
train_dataloader = dict(_base_.one_labeled_in_eight, dataset=_base_.with_unlabeled)
default_hooks = dict(pseudo_labels=_base_.labels_of_adapted)
