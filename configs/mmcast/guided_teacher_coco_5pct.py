# Guided Distillation, stage A on COCO with labels of 5 %.
# Leaves work_dirs/guided_teacher_coco_5pct/teacher.pth.
_base_ = './guided_teacher_coco.py'
train_dataloader = dict(
    dataset=dict(labeled_dataset=dict(image_list='splits/5pct/labeled.txt'))
)
