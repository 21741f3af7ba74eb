# Guided Distillation, stage A on COCO with labels of 0.4 %.
# Leaves work_dirs/guided_teacher_coco_0_4pct/teacher.pth.
_base_ = './guided_teacher_coco.py'
train_dataloader = dict(
    dataset=dict(labeled_dataset=dict(image_list='splits/0.4pct/labeled.txt'))
)
