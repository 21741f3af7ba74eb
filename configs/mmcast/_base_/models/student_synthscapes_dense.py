# The student's backbone and pixel decoder with heads for depth and semantic labels.
_base_ = [
    '../../swinmtl/_base_/synthscapes.py',
    './student_synthscapes_features.py',
]
width = _base_.features.width
model = dict(
    _delete_=True,
    type='SwinMTL',
    data_preprocessor=dict(
        type='DepthSegDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=_base_.features.backbone,
    decoder=dict(
        type='MaskFeatures',
        pixel_decoder=dict(
            _base_.features.pixel_decoder,
            in_channels=_base_.features.levels,
            feat_channels=width,
            out_channels=width,
        ),
    ),
    depth_head=dict(type='DepthHead', in_channels=width, init_std=0.02),
    seg_head=dict(type='SemSegHead', num_classes=19, in_channels=width, init_std=0.02),
    head_stride=4,
)
