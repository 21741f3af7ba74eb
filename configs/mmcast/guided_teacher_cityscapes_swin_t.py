# Guided Distillation, stage A on Cityscapes with Swin-T.
# Leaves work_dirs/guided_teacher_cityscapes_swin_t/teacher.pth.
_base_ = ['./guided_teacher_cityscapes.py', './_base_/backbones/swin_t.py']
model = _base_.network
