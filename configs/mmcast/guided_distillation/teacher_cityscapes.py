# Guided Distillation, stage A on Cityscapes: train the teacher of the burn-in on the
# labelled split alone, on one device.
# Leaves work_dirs/guided_distillation/teacher_cityscapes/teacher.pth from the last
# iteration; the published code keeps the best one in validation.
_base_ = [
    '../_base_/models/student_{{$STUDENT:r50_syncbn}}.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/guided_cityscapes_90k.py',
    './_base_/method.py',
]
model = dict(num_classes=_base_.num_classes, pixel_contrast=None)
train_dataloader = dict(batch_size=16)
work_dir = f'{_base_.root}/teacher_cityscapes'
