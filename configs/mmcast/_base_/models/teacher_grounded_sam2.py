# CAST's teacher: MM-Grounding-DINO with Swin-L, and SAM 2.1 Hiera-L (CAST, Table 1;
# architecture as in mmdet's grounding_dino_swin-l_pretrain_all). docs/teachers.md says
# where each file belongs, and how to configure smaller models. An entry point gives
# `classes`. It may give `prompts`: class names to the words that describe them.
detector_weights = 'checkpoints/grounding_dino_swin-l_pretrain_all-56d69e78.pth'
bert_folder = 'checkpoints/bert-base-uncased'
segmenter_weights = 'checkpoints/sam2.1-hiera-large/model.safetensors'
detector_url = (
    'https://download.openmmlab.com/mmdetection/v3.0/mm_grounding_dino/'
    'grounding_dino_swin-l_pretrain_all/'
)
made_by = {
    detector_weights: f'wget -P checkpoints {detector_url}'
    'grounding_dino_swin-l_pretrain_all-56d69e78.pth',
    segmenter_weights: 'hf download facebook/sam2.1-hiera-large model.safetensors '
    '--local-dir checkpoints/sam2.1-hiera-large',
}
levels = 5
model = dict(
    type='GroundedSam2',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
    detector=dict(
        type='GroundingDINO',
        num_queries=900,
        num_feature_levels=levels,
        with_box_refine=True,
        as_two_stage=True,
        language_model=dict(
            type='BertModel',
            name=bert_folder,
            max_tokens=256,
            pad_to_max=False,
            use_sub_sentence_represent=True,
            special_tokens_list=['[CLS]', '[SEP]', '.', '?'],
            add_pooling_layer=False,
        ),
        backbone=dict(
            type='SwinTransformer',
            pretrain_img_size=384,
            embed_dims=192,
            depths=[2, 2, 18, 2],
            num_heads=[6, 12, 24, 48],
            window_size=12,
            mlp_ratio=4,
            qkv_bias=True,
            qk_scale=None,
            drop_rate=0.0,
            attn_drop_rate=0.0,
            drop_path_rate=0.2,
            patch_norm=True,
            out_indices=(0, 1, 2, 3),
            with_cp=True,
            convert_weights=True,
            frozen_stages=-1,
        ),
        neck=dict(
            type='ChannelMapper',
            in_channels=[192, 384, 768, 1536],
            kernel_size=1,
            out_channels=256,
            act_cfg=None,
            bias=True,
            norm_cfg=dict(type='GN', num_groups=32),
            num_outs=levels,
        ),
        encoder=dict(
            num_layers=6,
            num_cp=6,  # layers that recompute activations; 0 is faster, needs memory
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=256, num_levels=levels, dropout=0.0),
                ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0),
            ),
            text_layer_cfg=dict(
                self_attn_cfg=dict(num_heads=4, embed_dims=256, dropout=0.0),
                ffn_cfg=dict(embed_dims=256, feedforward_channels=1024, ffn_drop=0.0),
            ),
            fusion_layer_cfg=dict(
                v_dim=256, l_dim=256, embed_dim=1024, num_heads=4, init_values=1e-4
            ),
        ),
        decoder=dict(
            num_layers=6,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
                cross_attn_text_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
                cross_attn_cfg=dict(
                    embed_dims=256, num_heads=8, num_levels=levels, dropout=0.0
                ),
                ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0),
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(
            num_feats=128, normalize=True, offset=0.0, temperature=20
        ),
        bbox_head=dict(
            type='GroundingDINOHead',
            num_classes=256,
            sync_cls_avg_factor=True,
            contrastive_cfg=dict(max_text_len=256, log_scale='auto', bias=True),
            loss_cls=dict(
                type='FocalLoss',
                use_sigmoid=True,
                gamma=2.0,
                alpha=0.25,
                loss_weight=1.0,
            ),
            loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        ),
        dn_cfg=dict(
            label_noise_scale=0.5,
            box_noise_scale=1.0,
            group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=100),
        ),
        train_cfg=dict(
            assigner=dict(
                type='HungarianAssigner',
                match_costs=[
                    dict(type='BinaryFocalLossCost', weight=2.0),
                    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                    dict(type='IoUCost', iou_mode='giou', weight=2.0),
                ],
            )
        ),
        test_cfg=dict(max_per_img=300),
        init_cfg=dict(type='Pretrained', checkpoint=detector_weights),
    ),
    segmenter=dict(
        type='Sam2Segmenter',
        arch='large',
        init_cfg=dict(type='Pretrained', checkpoint=segmenter_weights),
    ),
    score_thr=0.05,
    max_per_img=100,
)
