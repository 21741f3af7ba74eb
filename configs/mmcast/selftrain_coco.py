# CAST stage 1, step 2 on COCO: train the pre-trained detector again, with the
# pseudo-labels of step 1. Reads checkpoints/ and work_dirs/adapt_coco/teacher.pth;
# leaves work_dirs/selftrain_coco/teacher.pth.
_base_ = [
    './_base_/models/teacher_grounded_sam2_swin_t.py',
    './_base_/datasets/coco_grounding.py',
    './_base_/schedules/grounding_dino_10k.py',
    './_base_/teacher_runtime.py',
]
student = dict(_base_.model, classes=_base_.images.metainfo.classes)
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=student)
train_dataloader = dict(batch_size=4, dataset=_base_.with_unlabeled)
teacher = f'{_base_.root}/adapt_coco/teacher.pth'
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook', teacher=teacher))
work_dir = _base_.out and f'{_base_.out}/selftrain_coco'
