# CAST stage 3 on SynthScapes: the distilled student refined on labels alone.
# Reads work_dirs/distill_synthscapes/student.pth;
# leaves work_dirs/finetune_synthscapes/student.pth.
_base_ = './supervised_synthscapes.py'
# Statistics of normalisation stay as both sources made them.
model = dict(backbone=dict(norm_eval=True))
load_from = 'work_dirs/distill_synthscapes/student.pth'
optim_wrapper = dict(optimizer=dict(lr=2e-5))
train_cfg = dict(max_iters=80)
