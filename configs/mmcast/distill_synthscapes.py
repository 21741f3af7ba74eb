# CAST stage 2 on SynthScapes: the student learns from labels and the frozen teacher,
# 4 + 4 images in a batch.
# The teacher comes from stage 1, step 1: step 2 does not improve it in a single run of
# minutes. Reads work_dirs/adapt_synthscapes/teacher.pth;
# leaves work_dirs/distill_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes.py',
    './_base_/datasets/synthscapes.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(batch_size=8, dataset=_base_.with_unlabeled)
teacher = 'work_dirs/adapt_synthscapes/teacher.pth'
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook', teacher=teacher))
