# Guided Distillation, stage A on COCO: train the teacher of the burn-in on the
# labelled split alone, on one device.
# Leaves work_dirs/guided_distillation/teacher_coco/teacher.pth from the last
# iteration; the published code keeps the best one in validation.
_base_ = [
    '../_base_/models/student_{{$STUDENT:r50}}.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/guided_coco_369k.py',
    './_base_/method.py',
]
model = dict(
    num_classes=_base_.num_classes,
    pixel_contrast=None,
    data_preprocessor=dict(batch_augments=_base_.coco_padding),
)
work_dir = f'{_base_.root}/teacher_coco'
