# A small Mask2Former as stand-in foundation teacher (3.8 M parameters): half-width
# ResNet-18, one deformable encoder layer, three decoder layers. weights/README.md
# says how to make its weights.
_base_ = './mask2former_deformable.py'
width = 128
model = dict(
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        out_indices=(0, 1, 2, 3),
        norm_eval=False,  # trained from scratch
    ),
    panoptic_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=width,
        out_channels=width,
        num_queries=30,
        positional_encoding=dict(num_feats=width // 2),
        pixel_decoder=dict(
            encoder=dict(
                num_layers=1,
                layer_cfg=dict(
                    self_attn_cfg=dict(embed_dims=width),
                    ffn_cfg=dict(embed_dims=width, feedforward_channels=256),
                ),
            ),
            positional_encoding=dict(num_feats=width // 2),
        ),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=width),
                cross_attn_cfg=dict(embed_dims=width),
                ffn_cfg=dict(embed_dims=width, feedforward_channels=256),
            ),
        ),
    ),
    pixel_contrast=dict(in_channels=256, embed_channels=64),
    train_cfg=dict(num_points=1024),
    test_cfg=dict(max_per_image=50),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='{{ fileDirname }}/../../weights/synthscapes_teacher.pth',
    ),
)
