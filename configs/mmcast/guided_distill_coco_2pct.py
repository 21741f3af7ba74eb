# Guided Distillation, stage B on COCO with labels of 2 %.
# Leaves work_dirs/guided_distill_coco_2pct/student.pth.
_base_ = './guided_distill_coco.py'
model = dict(teacher=dict(checkpoint='work_dirs/guided_teacher_coco_2pct/teacher.pth'))
train_dataloader = dict(
    dataset=dict(labeled_dataset=dict(image_list='splits/2pct/labeled.txt'))
)
