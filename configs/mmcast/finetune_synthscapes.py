# CAST stage 3 on SynthScapes: refine the distilled student on labels alone.
# Reads work_dirs/distill_synthscapes/student.pth;
# leaves work_dirs/finetune_synthscapes/student.pth.
_base_ = './supervised_synthscapes.py'
# The backbone's batch norm keeps its statistics from labelled and unlabelled images;
# that of the pixel decoder goes on.
model = dict(backbone=dict(norm_eval=True))
load_from = 'work_dirs/distill_synthscapes/student.pth'
optim_wrapper = dict(optimizer=dict(lr=2e-5))
train_cfg = dict(max_iters=80)
