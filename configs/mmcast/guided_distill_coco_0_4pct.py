# Guided Distillation, stage B on COCO with labels of 0.4 %.
# Leaves work_dirs/guided_distill_coco_0_4pct/student.pth.
_base_ = './guided_distill_coco.py'
model = dict(
    teacher=dict(checkpoint='work_dirs/guided_teacher_coco_0_4pct/teacher.pth')
)
train_dataloader = dict(
    dataset=dict(labeled_dataset=dict(image_list='splits/0.4pct/labeled.txt'))
)
