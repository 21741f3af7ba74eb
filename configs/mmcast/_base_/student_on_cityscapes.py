# The student on Cityscapes: stages 2 and 3, and the baseline. Its own optimiser and
# warm-up come before the schedule.
_base_ = [
    './student.py',
    './datasets/cityscapes.py',
    './schedules/cityscapes_90k.py',
    './default_runtime.py',
]
model = dict(num_classes=_base_.num_classes)
optim_wrapper = dict(_base_.own_optim_wrapper or _base_.optim_wrapper, _delete_=True)
decay = _base_.param_scheduler
param_scheduler = [*_base_.warmup, decay] if _base_.warmup else decay
