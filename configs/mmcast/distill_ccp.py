# CAST stage 2 on photographs: the supervised student goes on with labels and the frozen
# teacher, 2 + 2 images in a batch (docs/photographs.md).
# Reads work_dirs/supervised_ccp/student.pth and work_dirs/adapt_ccp/teacher.pth;
# leaves work_dirs/distill_ccp/student.pth.
_base_ = './supervised_ccp.py'
start = f'{_base_.student_root}/supervised_ccp/student.pth'
student = dict(_base_.model, init_cfg=dict(type='Pretrained', checkpoint=start))
model = dict(_base_.semi_supervised, _delete_=True, student=student)
train_dataloader = dict(dataset=_base_.with_unlabeled)
teacher = f'{_base_.root}/adapt_ccp/teacher.pth'
default_hooks = dict(pseudo_labels=dict(_base_.labelled_by, teacher=teacher))
optim_wrapper = dict(optimizer=dict(lr=7e-4))
