# Own data, size tiny, stage 3: refine the distilled student on the labels.
_base_ = './supervised.py'
# Batch norm keeps its statistics from labelled and unlabelled images.
model = dict(backbone=dict(norm_eval=True))
optim_wrapper = dict(optimizer=dict(lr=2e-5))
train_cfg = dict(max_iters=60)
