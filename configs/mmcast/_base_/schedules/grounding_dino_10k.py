# MM-Grounding-DINO on labels and pseudo-labels: 10,000 iterations, total batch of 4.
_base_ = './grounding_dino_1k.py'
param_scheduler = dict(milestones=[6000, 9000])
train_cfg = dict(max_iters=10000, val_interval=2500)
auto_scale_lr = dict(base_batch_size=4)
