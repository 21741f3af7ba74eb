# Guided Distillation, stage A on photographs: the baseline, supervised_ccp.py, under
# another name.
# Leaves work_dirs/guided_distillation/teacher_ccp/teacher.pth.
_base_ = [
    '../_base_/models/student_small.py',
    '../_base_/datasets/ccp_256.py',
    '../_base_/schedules/small.py',
    './_base_/method.py',
]
model = dict(classes=_base_.classes)
work_dir = f'{_base_.root}/teacher_ccp'
