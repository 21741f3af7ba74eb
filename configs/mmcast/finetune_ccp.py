# CAST stage 3 on photographs: refine the distilled student on labels alone.
# Reads work_dirs/distill_ccp/student.pth; leaves work_dirs/finetune_ccp/student.pth.
_base_ = './supervised_ccp.py'
model = dict(backbone=dict(init_cfg=None))
load_from = f'{_base_.student_root}/distill_ccp/student.pth'
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=100)
