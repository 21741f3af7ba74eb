# Own data, size tiny, stage 2: SynthScapes' student learns from labels and the teacher,
# 4 + 4 images in a batch.
_base_ = [
    '../../_base_/models/student_synthscapes.py',
    '../../_base_/datasets/own_data_tiny.py',
    '../../_base_/schedules/synthscapes.py',
    '../../_base_/default_runtime.py',
]
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(batch_size=8, dataset=_base_.with_unlabeled)
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook'))
train_cfg = dict(max_iters=700, val_begin=1)
