# MM-Grounding-DINO on ADE20K's labelled images. The research code raised the length
# from 1,000 to 3,000 to 10,000 iterations. It kept the learning rate's steps at 2,000
# and 2,500, which fit 3,000 iterations.
_base_ = './grounding_dino_1k.py'
param_scheduler = dict(milestones=[2000, 2500])
train_cfg = dict(max_iters=3000, val_interval=1000)
