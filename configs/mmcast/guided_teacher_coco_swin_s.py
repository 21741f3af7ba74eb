# Guided Distillation, stage A on COCO with Swin-S.
# Leaves work_dirs/guided_teacher_coco_swin_s/teacher.pth.
_base_ = ['./guided_teacher_coco.py', './_base_/backbones/swin_s.py']
model = _base_.network
