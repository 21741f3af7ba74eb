# Mask2Former's decoder, losses and inference as published (9 layers, 100 queries,
# 12,544 points, no-object weight 0.1), and CAST's pixel contrast; lambda_pxl is
# pixel_contrast.loss.loss_weight. A child adds pixel decoder and backbone.
width = 256
model = dict(
    type='PixelContrastMask2Former',
    num_classes=8,  # an entry point gives its own number
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    panoptic_head=dict(
        type='SlicedMask2FormerHead',
        feat_channels=width,
        out_channels=width,
        num_queries=100,
        positional_encoding=dict(num_feats=width // 2, normalize=True),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=9,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=width, num_heads=8, batch_first=True),
                cross_attn_cfg=dict(embed_dims=width, num_heads=8, batch_first=True),
                ffn_cfg=dict(embed_dims=width, feedforward_channels=2048),
            ),
        ),
        loss_cls=dict(type='CrossEntropyLoss', loss_weight=2.0, reduction='mean'),
        loss_mask=dict(
            type='CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.0
        ),
        loss_dice=dict(
            type='DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0,
        ),
    ),
    pixel_contrast=dict(
        type='PixelContrastHead',
        preset='default',
        loss=dict(type='PixelContrastLoss', loss_weight=0.1),
    ),
    panoptic_fusion_head=dict(type='InstanceFusionHead'),
    train_cfg=dict(
        num_points=12544,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='ClassificationCost', weight=2.0),
                dict(type='CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ],
        ),
        sampler=dict(type='MaskPseudoSampler'),
    ),
    test_cfg=dict(
        panoptic_on=False, semantic_on=False, instance_on=True, max_per_image=100
    ),
)
# COCO's images of any scale are padded to one size.
coco_padding = [dict(type='BatchFixedSizePad', size=(1024, 1024), pad_mask=True)]
