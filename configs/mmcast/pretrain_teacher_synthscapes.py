# Trains the stand-in foundation teacher on SynthScapes' source domain only.
# weights/README.md has the command.
# Leaves work_dirs/pretrain_teacher_synthscapes/teacher.pth.
_base_ = [
    './_base_/models/teacher_synthscapes.py',
    './_base_/datasets/synthscapes_source.py',
    './_base_/schedules/synthscapes.py',
    './_base_/teacher_runtime.py',
]
model = dict(init_cfg=None, pixel_contrast=None)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_iters=5000)
default_hooks = dict(checkpoint=dict(interval=500))
