# Guided Distillation on COCO: AdamW 1e-4, weight decay 0.05, 368,750 iterations at 16
# labelled images, a tenth of the rate from 327,778 on and again from 355,092, gradients
# clipped at 0.01, evaluated every 5k. The published 10 iterations of warm-up, which
# start at the full rate, change nothing.
_base_ = './guided_cityscapes_90k.py'
max_iters = 368750
param_scheduler = [
    dict(
        type='MultiStepLR',
        milestones=[327778, 355092],
        gamma=0.1,
        begin=0,
        end=max_iters,
        by_epoch=False,
    )
]
train_cfg = dict(max_iters=max_iters)
# For Swin-L, which trains twice as long.
twice_as_long = dict(
    train_cfg=dict(max_iters=737500),
    param_scheduler=[dict(param_scheduler[0], milestones=[655556, 710184], end=737500)],
)
