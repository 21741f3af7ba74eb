# SwinMTL on Cityscapes with attention windows that fit crops of 480. With the published
# windows, half of the tokens in the last two stages are padding.
# Leaves work_dirs/swinmtl/cityscapes_window30/model.pth.
_base_ = './cityscapes.py'
model = dict(backbone=dict(window_size=[30, 30, 30, 15]))
work_dir = f'{_base_.root}/cityscapes_window30'
