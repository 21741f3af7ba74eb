# SwinMTL's network for depth alone, on NYU Depth v2.
# Leaves work_dirs/swinmtl/depth_only_nyuv2/model.pth.
_base_ = './nyuv2.py'
model = dict(seg_head=None)
val_evaluator = [_base_.depth_metric]
test_evaluator = val_evaluator
work_dir = f'{_base_.root}/depth_only_nyuv2'
