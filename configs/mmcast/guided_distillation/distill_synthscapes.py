# Guided Distillation, stage B on SynthScapes: train the student from its starting
# weights. A teacher labels for it: first stage A's teacher, then the student's average.
# Batches have 4 labelled and 4 unlabelled images.
# Reads work_dirs/guided_distillation/teacher_synthscapes/teacher.pth;
# leaves work_dirs/guided_distillation/distill_synthscapes/student.pth.
_base_ = './teacher_synthscapes.py'
teacher = dict(checkpoint=f'{_base_.root}/teacher_synthscapes/teacher.pth')
model = dict(_base_.guided, _delete_=True, student=_base_.model, teacher=teacher)
train_dataloader = dict(
    batch_size=8, sampler=dict(repeat_thr=10.0), dataset=_base_.online
)
# Switch and memory have the published share of the run: 50k of 90k iterations, and an
# average over 2.5k of them.
update = dict(_base_.teacher_update, burn_in_iters=1111, momentum=0.982)
default_hooks = dict(teacher_update=update, export=dict(out='student.pth'))
val_cfg = dict(type='TeacherStudentValLoop')
work_dir = f'{_base_.root}/distill_synthscapes'
