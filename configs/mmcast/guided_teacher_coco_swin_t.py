# Guided Distillation, stage A on COCO with Swin-T.
# Leaves work_dirs/guided_teacher_coco_swin_t/teacher.pth.
_base_ = ['./guided_teacher_coco.py', './_base_/backbones/swin_t.py']
model = _base_.network
