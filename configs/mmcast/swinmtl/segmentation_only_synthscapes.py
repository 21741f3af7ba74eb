# SwinMTL's network for labels alone, on SynthScapes.
# Leaves work_dirs/swinmtl/segmentation_only_synthscapes/model.pth.
_base_ = './synthscapes.py'
model = dict(depth_head=None)
no_depth = dict(dataset=dict(data_prefix=dict(depth_path=None, camera_path=None)))
train_dataloader = val_dataloader = test_dataloader = no_depth
# Two of these models together train 1.5 times as long as the one for both tasks.
train_cfg = dict(max_iters=450)
val_evaluator = [_base_.iou_metric]
test_evaluator = val_evaluator
work_dir = f'{_base_.root}/segmentation_only_synthscapes'
