# Mask2Former with its own pixel decoder, a deformable encoder of six layers.
_base_ = './mask2former.py'
width = 256
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    panoptic_head=dict(
        pixel_decoder=dict(
            type='MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                num_layers=6,
                layer_cfg=dict(
                    self_attn_cfg=dict(
                        embed_dims=width,
                        num_heads=8,
                        num_levels=3,
                        num_points=4,
                        dropout=0.0,
                    ),
                    ffn_cfg=dict(embed_dims=width, feedforward_channels=1024),
                ),
            ),
            positional_encoding=dict(num_feats=width // 2, normalize=True),
        ),
    ),
)
