# Trains the student's starting weights, the stand-in for DINOv2's, on SynthScapes'
# source domain only. weights/README.md has the command.
# Leaves work_dirs/pretrain_student_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes.py',
    './_base_/datasets/synthscapes_source.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
model = dict(init_cfg=None, pixel_contrast=None)
train_cfg = dict(max_iters=700)
default_hooks = dict(checkpoint=dict(interval=500))
