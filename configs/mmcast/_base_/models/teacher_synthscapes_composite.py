# The stand-in teacher as the paper's: a detector that learns, here the small
# Mask2Former, and a segmenter that does not. The detector's masks are prompts, since
# its boxes are drawn around them.
_base_ = './teacher_synthscapes.py'
model = dict(
    _delete_=True,
    type='GroundedSam2',
    data_preprocessor=_base_.model.data_preprocessor,
    detector=dict(_base_.model, pixel_contrast=None),
    segmenter=dict(
        type='CropSegmenter',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{{ fileDirname }}/../../weights/synthscapes_segmenter.pth',
        ),
    ),
    mask_prompts=True,
)
