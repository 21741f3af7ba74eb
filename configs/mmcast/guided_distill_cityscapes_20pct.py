# Guided Distillation, stage B on Cityscapes with labels of 20 %.
# Leaves work_dirs/guided_distill_cityscapes_20pct/student.pth.
_base_ = './guided_distill_cityscapes.py'
model = dict(
    teacher=dict(checkpoint='work_dirs/guided_teacher_cityscapes_20pct/teacher.pth')
)
train_dataloader = dict(
    dataset=dict(labeled_dataset=dict(image_list='splits/20pct/labeled.txt'))
)
