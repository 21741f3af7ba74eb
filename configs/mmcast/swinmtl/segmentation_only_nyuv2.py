# SwinMTL's network for labels alone, on NYU Depth v2.
# Leaves work_dirs/swinmtl/segmentation_only_nyuv2/model.pth.
_base_ = './nyuv2.py'
model = dict(depth_head=None)
val_evaluator = [_base_.iou_metric]
test_evaluator = val_evaluator
work_dir = f'{_base_.root}/segmentation_only_nyuv2'
