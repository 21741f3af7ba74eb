# The student on COCO: stages 2 and 3, and the baseline. Its own optimiser and warm-up
# come before the schedule. CAST has no COCO: this project takes ADE20K's schedule, and
# Guided Distillation's weak view.
_base_ = [
    './student.py',
    './datasets/coco.py',
    './schedules/ade20k_160k.py',
    './default_runtime.py',
]
# Weights that have seen all of COCO's labels would hide what a split can teach.
model = dict(_base_.on_coco, num_classes=_base_.num_classes)
optim_wrapper = dict(_base_.own_optim_wrapper or _base_.optim_wrapper, _delete_=True)
decay = _base_.param_scheduler
param_scheduler = [*_base_.warmup, decay] if _base_.warmup else decay
train_dataloader = dict(batch_size=8)
