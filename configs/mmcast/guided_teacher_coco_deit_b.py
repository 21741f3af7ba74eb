# Guided Distillation, stage A on COCO with DeiT-B.
# Leaves work_dirs/guided_teacher_coco_deit_b/teacher.pth.
_base_ = ['./guided_teacher_coco.py', './_base_/backbones/deit_b.py']
model = _base_.network
