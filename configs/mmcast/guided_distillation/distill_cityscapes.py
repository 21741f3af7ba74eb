# Guided Distillation, stage B on Cityscapes: train a student from its backbone's
# weights. A teacher labels for it: first stage A's teacher, then the student's average.
# Batches of 16 labelled and 16 unlabelled images are for one device. On N devices,
# divide batch_size by N.
# Reads work_dirs/guided_distillation/teacher_cityscapes/teacher.pth;
# leaves work_dirs/guided_distillation/distill_cityscapes/student.pth.
_base_ = './teacher_cityscapes.py'
teacher = dict(checkpoint=f'{_base_.root}/teacher_cityscapes/teacher.pth')
model = dict(_base_.guided, _delete_=True, student=_base_.model, teacher=teacher)
train_dataloader = dict(
    batch_size=32, sampler=dict(repeat_thr=10.0), dataset=_base_.online
)
default_hooks = dict(
    teacher_update=_base_.teacher_update, export=dict(out='student.pth')
)
val_cfg = dict(type='TeacherStudentValLoop')
auto_scale_lr = dict(base_batch_size=32)
work_dir = f'{_base_.root}/distill_cityscapes'
