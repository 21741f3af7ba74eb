# The first step of the student's starting weights, the stand-in for DINOv2's: backbone
# and pixel decoder learn depth and semantic labels, no instances, of SynthScapes' world
# domain.
# weights/README.md has the command.
# Leaves work_dirs/pretrain_student_synthscapes/student.pth.
_base_ = './_base_/models/student_synthscapes_dense.py'
images = dict(dataset=dict(data_root='data/synthscapes/world/'))
train_dataloader = dict(images, batch_size=16)
val_dataloader = test_dataloader = images
train_cfg = dict(max_iters=3000)
param_scheduler = dict(model=[dict(type='RiseAndFallLR', by_epoch=False)])
heads = ['depth_head.', 'seg_head.']
default_hooks = dict(export=dict(out='student.pth', leave_out=heads))
