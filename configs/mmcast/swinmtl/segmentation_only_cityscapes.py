# SwinMTL's network for labels alone, on Cityscapes.
# Leaves work_dirs/swinmtl/segmentation_only_cityscapes/model.pth.
_base_ = './cityscapes.py'
model = dict(depth_head=None)
no_depth = dict(dataset=dict(data_prefix=dict(depth_path=None, camera_path=None)))
train_dataloader = val_dataloader = test_dataloader = no_depth
val_evaluator = [_base_.iou_metric]
test_evaluator = val_evaluator
work_dir = f'{_base_.root}/segmentation_only_cityscapes'
