# CAST stage 3 on COCO: refine the distilled student on labels alone.
# Reads work_dirs/distill_coco/student.pth;
# leaves work_dirs/finetune_coco/student.pth.
# The paper gives no learning rate and no length for this stage. This project chooses
# a tenth of stage 2's rate and 10k iterations.
_base_ = './supervised_coco.py'
model = dict(init_cfg=None, backbone=dict(init_cfg=None))
load_from = f'{_base_.student_root}/distill_coco/student.pth'
optim_wrapper = dict(optimizer=dict(lr=_base_.optim_wrapper.optimizer.lr / 10))
train_cfg = dict(max_iters=10000, val_interval=10000)
work_dir = _base_.out and f'{_base_.out}/finetune_coco'
