# SwinMTL on Cityscapes as published: batches of 4, crops of 480, 200 epochs.
# PRESET=research_code has the classes, the depth and the critic of the research code.
# Leaves work_dirs/swinmtl/cityscapes/model.pth.
_base_ = './_base_/cityscapes.py'
work_dir = f'{_base_.root}/cityscapes'
