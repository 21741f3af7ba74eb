# CAST on ADE20K: as on Cityscapes, but AdamW 1e-4, weight decay 0.05, 160k
# iterations, evaluated every 80k.
_base_ = './cityscapes_90k.py'
max_iters = 160000
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=80000)
