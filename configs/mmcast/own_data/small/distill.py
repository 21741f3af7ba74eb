# Own data, size small, stage 2: the supervised student goes on with labels and the
# teacher, 2 + 2 images in a batch.
_base_ = [
    '../../_base_/models/student_small.py',
    '../../_base_/datasets/own_data_small.py',
    '../../_base_/schedules/small.py',
    '../../_base_/default_runtime.py',
]
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=_base_.model)
train_dataloader = dict(batch_size=4, dataset=_base_.with_unlabeled)
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook'))
optim_wrapper = dict(optimizer=dict(lr=7e-4))
train_cfg = dict(max_iters=300)
starts_supervised = True  # mmcast own-data adds the file
