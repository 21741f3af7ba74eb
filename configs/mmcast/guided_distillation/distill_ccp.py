# Guided Distillation, stage B on photographs. Batches have 2 labelled and 2 unlabelled
# images. Reads work_dirs/guided_distillation/teacher_ccp/teacher.pth;
# leaves work_dirs/guided_distillation/distill_ccp/student.pth.
_base_ = './teacher_ccp.py'
teacher = dict(checkpoint=f'{_base_.root}/teacher_ccp/teacher.pth')
guided = dict(_base_.guided, query_rule=None, score_thr=0.7, min_area=5)
model = dict(guided, _delete_=True, student=_base_.model, teacher=teacher)
train_dataloader = dict(dataset=_base_.online)
# Switch and memory have the published share of the run.
update = dict(_base_.teacher_update, burn_in_iters=389, momentum=0.949)
default_hooks = dict(teacher_update=update, export=dict(out='student.pth'))
val_cfg = dict(type='TeacherStudentValLoop')
work_dir = f'{_base_.root}/distill_ccp'
