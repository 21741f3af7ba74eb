# Trains the stand-in for SAM 2 on SynthScapes' world domain: masks of boxes, without
# classes. The first of the three trainings in weights/README.md.
# Leaves work_dirs/pretrain_segmenter_synthscapes/segmenter.pth.
_base_ = [
    './_base_/models/segmenter_synthscapes.py',
    './_base_/datasets/synthscapes_boxes.py',
    './_base_/schedules/synthscapes_segmenter.py',
    './_base_/teacher_runtime.py',
]
default_hooks = dict(checkpoint=dict(interval=500), export=dict(out='segmenter.pth'))
