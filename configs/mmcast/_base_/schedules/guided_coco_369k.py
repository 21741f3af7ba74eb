# Guided Distillation on COCO: AdamW 1e-4, weight decay 0.05, 368,750 iterations with 16
# labelled images, rate cut to a tenth at 327,778 and again at 355,092, gradients
# clipped at 0.01, evaluated every 5k. The published 10 iterations of warm-up start at
# the full rate, so they change nothing.
_base_ = './guided_cityscapes_90k.py'
param_scheduler = dict(
    _delete_=True,
    type='MultiStepLR',
    by_epoch=False,
    milestones=[327778, 355092],
    gamma=0.1,
)
train_cfg = dict(max_iters=368750)
