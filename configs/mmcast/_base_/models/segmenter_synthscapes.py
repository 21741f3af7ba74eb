# A small stand-in for SAM 2 (1.1 M parameters), prompted with boxes and rough masks.
model = dict(
    type='BoxPromptedSegmentor',
    # RGB in [0, 255]: the segmenter normalises by itself.
    data_preprocessor=dict(type='DetDataPreprocessor', bgr_to_rgb=True, pad_mask=True),
    segmenter=dict(type='CropSegmenter'),
    loss_mask=dict(type='CrossEntropyLoss', use_sigmoid=True),
    loss_dice=dict(type='DiceLoss', naive_dice=True, eps=1.0),
    box_noise=0.12,
    rough_masks=0.5,
)
