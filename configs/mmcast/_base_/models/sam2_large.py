# SAM 2.1 Hiera-L alone, prompted with annotated boxes. Loss: 20 * focal + dice.
segmenter_weights = 'checkpoints/sam2.1-hiera-large/model.safetensors'
made_by = {
    segmenter_weights: 'hf download facebook/sam2.1-hiera-large model.safetensors '
    '--local-dir checkpoints/sam2.1-hiera-large',
}
model = dict(
    type='BoxPromptedSegmentor',
    # RGB in [0, 255]: the segmenter normalises by itself.
    data_preprocessor=dict(type='DetDataPreprocessor', bgr_to_rgb=True, pad_mask=True),
    segmenter=dict(
        type='Sam2Segmenter',
        arch='large',
        init_cfg=dict(type='Pretrained', checkpoint=segmenter_weights),
    ),
    loss_mask=dict(
        type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0
    ),
    loss_dice=dict(
        type='DiceLoss',
        use_sigmoid=True,
        activate=True,
        naive_dice=True,
        eps=1.0,
        loss_weight=1.0,
    ),
)
