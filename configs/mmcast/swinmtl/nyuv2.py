# SwinMTL on NYU Depth v2: 40 classes, up to 10 m, 200 epochs of 198 batches.
# The folder comes from tools/dataset_converters/nyuv2.py.
# Leaves work_dirs/swinmtl/nyuv2/model.pth.
_base_ = './_base_/nyuv2.py'
work_dir = f'{_base_.root}/nyuv2'
