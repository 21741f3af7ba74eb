# A small version of the full-size student: ResNet-18 with an eighth of the width, DPT,
# masked decoder. Backbone and pixel decoder start from weights; weights/README.md says
# how to make them.
_base_ = ['./mask2former_dpt.py', './student_synthscapes_features.py']
width = _base_.features.width
start = '{{ fileDirname }}/../../weights/synthscapes_student.pth'
model = dict(
    backbone=dict(
        _base_.features.backbone,
        init_cfg=dict(type='Pretrained', checkpoint=start, prefix='backbone.'),
    ),
    panoptic_head=dict(
        in_channels=_base_.features.levels,
        feat_channels=width,
        out_channels=width,
        num_queries=30,
        positional_encoding=dict(num_feats=width // 2),
        pixel_decoder=dict(
            _base_.features.pixel_decoder,
            init_cfg=dict(
                type='Pretrained', checkpoint=start, prefix='decoder.pixel_decoder.'
            ),
        ),
        transformer_decoder=dict(
            num_layers=2,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=width, num_heads=2),
                cross_attn_cfg=dict(embed_dims=width, num_heads=2),
                ffn_cfg=dict(embed_dims=width, feedforward_channels=128),
            ),
        ),
    ),
    pixel_contrast=dict(in_channels=64, embed_channels=64),
    train_cfg=dict(num_points=512),
    test_cfg=dict(max_per_image=50),
)
