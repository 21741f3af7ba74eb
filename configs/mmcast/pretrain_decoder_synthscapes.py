# The second step of the student's starting weights: the whole student learns semantic
# labels, one mask per class. So its transformer decoder can draw masks, but knows no
# instances. weights/README.md has the command.
# Reads work_dirs/pretrain_student_synthscapes/student.pth;
# leaves work_dirs/pretrain_decoder_synthscapes/student.pth.
_base_ = [
    './_base_/models/student_synthscapes_segments.py',
    './_base_/datasets/synthscapes_segments.py',
    './_base_/schedules/synthscapes.py',
    './_base_/default_runtime.py',
]
train_cfg = dict(max_iters=3000, val_interval=10000)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(export=dict(leave_out=['panoptic_head.cls_embed.']))
