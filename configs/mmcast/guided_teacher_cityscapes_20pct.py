# Guided Distillation, stage A on Cityscapes with labels of 20 %.
# Leaves work_dirs/guided_teacher_cityscapes_20pct/teacher.pth.
_base_ = './guided_teacher_cityscapes.py'
train_dataloader = dict(
    dataset=dict(labeled_dataset=dict(image_list='splits/20pct/labeled.txt'))
)
