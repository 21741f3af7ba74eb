# Own data, size tiny, stage 2: SynthScapes' student learns from labels and the teacher.
# A batch has 1 labelled and 7 unlabelled images, which weigh the same, as in
# distill_synthscapes.py: few labelled images would be learnt by heart.
_base_ = [
    '../../_base_/models/student_synthscapes.py',
    '../../_base_/datasets/own_data_tiny.py',
    '../../_base_/schedules/synthscapes.py',
    '../../_base_/default_runtime.py',
]
_base_.model.pixel_contrast.loss.loss_weight = 0.8
model = dict(
    _delete_=True, type='SemiSupervisedSegmentor', student=_base_.model, semi_weight=7.0
)
train_dataloader = dict(
    batch_size=8, sampler=dict(source_ratio=[1, 7]), dataset=_base_.with_unlabeled
)
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook'))
train_cfg = dict(max_iters=700, val_begin=1)
