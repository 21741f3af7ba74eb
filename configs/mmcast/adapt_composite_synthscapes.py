# CAST stage 1, step 1 on SynthScapes with detector and segmenter apart, as in the
# paper. Reads the stand-ins in weights/;
# leaves work_dirs/adapt_composite_synthscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_synthscapes_composite.py',
    './_base_/datasets/synthscapes_grounding.py',
    './_base_/schedules/synthscapes.py',
    './_base_/teacher_runtime.py',
]
model = dict(classes=_base_.metainfo.classes)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_iters=30)
default_hooks = dict(logger=dict(interval=10))
