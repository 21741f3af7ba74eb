# SwinMTL on SynthScapes, in minutes on a CPU.
# Leaves work_dirs/swinmtl/synthscapes/model.pth.
_base_ = './_base_/synthscapes.py'
work_dir = f'{_base_.root}/synthscapes'
