# Guided Distillation, stage A on COCO with CAST's student.
# Leaves work_dirs/guided_teacher_coco_dinov2_s_dpt/teacher.pth.
_base_ = ['./guided_teacher_coco.py', './_base_/backbones/dinov2_s_dpt_coco.py']
model = _base_.network
