# SwinMTL's network for depth alone, on Cityscapes.
# Leaves work_dirs/swinmtl/depth_only_cityscapes/model.pth.
_base_ = './cityscapes.py'
model = dict(seg_head=None)
val_evaluator = [_base_.depth_metric]
test_evaluator = val_evaluator
work_dir = f'{_base_.root}/depth_only_cityscapes'
