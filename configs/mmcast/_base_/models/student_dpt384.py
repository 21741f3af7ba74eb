# The research code's student: width 384 throughout (81 M parameters).
_base_ = './student_dpt256.py'
width = 384
model = dict(
    panoptic_head=dict(
        feat_channels=width,
        out_channels=width,
        positional_encoding=dict(num_feats=width // 2),
        transformer_decoder=dict(
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=width),
                cross_attn_cfg=dict(embed_dims=width),
                ffn_cfg=dict(embed_dims=width),
            )
        ),
    )
)
