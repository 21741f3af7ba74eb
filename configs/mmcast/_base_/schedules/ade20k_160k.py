# CAST on ADE20K: as on Cityscapes, but AdamW 1e-4, weight decay 0.05, 160k
# iterations, evaluated every 80k.
_base_ = './cityscapes_90k.py'
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
train_cfg = dict(max_iters=160000, val_interval=80000)
