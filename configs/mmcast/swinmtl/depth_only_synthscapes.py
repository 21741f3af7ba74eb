# SwinMTL's network for depth alone, on SynthScapes.
# Leaves work_dirs/swinmtl/depth_only_synthscapes/model.pth.
_base_ = './synthscapes.py'
model = dict(seg_head=None)
# Two of these models together train 1.5 times as long as the one for both tasks.
train_cfg = dict(max_iters=450)
val_evaluator = [_base_.depth_metric]
test_evaluator = val_evaluator
work_dir = f'{_base_.root}/depth_only_synthscapes'
