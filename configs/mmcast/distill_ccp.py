# CAST stage 2 on photographs: the student learns from labels and the frozen teacher.
# A batch has 1 labelled and 3 unlabelled images, which weigh the same: the loss is
# 4 x (mean over the images + 0.1 x contrast).
# Reads work_dirs/adapt_ccp/teacher.pth; leaves work_dirs/distill_ccp/student.pth.
_base_ = './supervised_ccp.py'
contrast = dict(
    type='PixelContrastHead',
    in_channels=64,
    in_index=1,
    loss=dict(type='PixelContrastLoss', loss_weight=0.4),
)
model = dict(
    _delete_=True,
    type='SemiSupervisedSegmentor',
    student=_base_.model,
    semi_weight=3.0,
    pixel_contrast=contrast,
)
train_dataloader = dict(
    sampler=dict(source_ratio=[1, 3]), dataset=_base_.with_unlabeled
)
teacher = f'{_base_.root}/adapt_ccp/teacher.pth'
default_hooks = dict(pseudo_labels=dict(_base_.labelled_by, teacher=teacher))
