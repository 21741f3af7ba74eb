# SynthScapes' student for the 19 semantic classes. Backbone and pixel decoder come from
# the first step of its pre-training.
_base_ = './student_synthscapes.py'
start = 'work_dirs/pretrain_student_synthscapes/student.pth'
model = dict(
    num_classes=19,
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint=start, prefix='backbone.')
    ),
    panoptic_head=dict(
        pixel_decoder=dict(
            init_cfg=dict(
                type='Pretrained', checkpoint=start, prefix='decoder.pixel_decoder.'
            )
        )
    ),
    pixel_contrast=None,
    init_cfg=None,
)
