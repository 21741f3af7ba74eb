# Guided Distillation, stage A on COCO with Swin-B.
# Leaves work_dirs/guided_teacher_coco_swin_b/teacher.pth.
_base_ = ['./guided_teacher_coco.py', './_base_/backbones/swin_b.py']
model = _base_.network
