# Guided Distillation, stage B on COCO with labels of 1 %.
# Leaves work_dirs/guided_distill_coco_1pct/student.pth.
_base_ = './guided_distill_coco.py'
model = dict(teacher=dict(checkpoint='work_dirs/guided_teacher_coco_1pct/teacher.pth'))
train_dataloader = dict(
    dataset=dict(labeled_dataset=dict(image_list='splits/1pct/labeled.txt'))
)
