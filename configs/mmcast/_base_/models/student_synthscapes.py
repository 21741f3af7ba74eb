# A small version of the full-size student: ResNet-18 with an eighth of the width, DPT,
# masked decoder. All but the classes' layer starts from weights; weights/README.md says
# how to make them.
_base_ = ['./mask2former_dpt.py', './student_synthscapes_features.py']
width = _base_.features.width
model = dict(
    backbone=_base_.features.backbone,
    panoptic_head=dict(
        in_channels=_base_.features.levels,
        feat_channels=width,
        out_channels=width,
        num_queries=30,
        positional_encoding=dict(num_feats=width // 2),
        pixel_decoder=_base_.features.pixel_decoder,
        transformer_decoder=dict(
            num_layers=2,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=width, num_heads=2),
                cross_attn_cfg=dict(embed_dims=width, num_heads=2),
                ffn_cfg=dict(embed_dims=width, feedforward_channels=128),
            ),
        ),
    ),
    # Stride 16: the last map has only 32 cells an image (docs/results_tables.md).
    pixel_contrast=dict(in_index=2, in_channels=32, embed_channels=64),
    train_cfg=dict(num_points=512),
    test_cfg=dict(max_per_image=50),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='{{ fileDirname }}/../../weights/synthscapes_student.pth',
    ),
)
