# CAST stage 1, step 2 on ADE20K with another teacher, a Mask2Former with Swin-L:
# train the pre-trained teacher again, with pseudo-labels.
# Reads checkpoints/ and work_dirs/adapt_ade20k_mask2former/teacher.pth;
# leaves work_dirs/selftrain_ade20k_mask2former/teacher.pth.
_base_ = [
    './_base_/models/teacher_mask2former_swin_l.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/ade20k_160k.py',
    './_base_/teacher_runtime.py',
]
student = dict(_base_.model, num_classes=_base_.num_classes)
model = dict(_delete_=True, type='SemiSupervisedSegmentor', student=student)
train_dataloader = dict(dataset=_base_.with_unlabeled)
teacher = f'{_base_.root}/adapt_ade20k_mask2former/teacher.pth'
default_hooks = dict(pseudo_labels=dict(type='PseudoLabelHook', teacher=teacher))
work_dir = _base_.out and f'{_base_.out}/selftrain_ade20k_mask2former'
