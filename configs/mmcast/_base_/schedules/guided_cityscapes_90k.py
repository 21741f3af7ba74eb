# Guided Distillation on Cityscapes: AdamW 1e-4, weight decay 0.05, poly 0.9, 90k
# iterations with 16 labelled images, gradients clipped at 0.01, evaluated every 5k.
_base_ = './cityscapes_90k.py'
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
train_cfg = dict(val_interval=5000)
auto_scale_lr = dict(base_batch_size=16)
