# A large Mask2Former as teacher: Swin-L, deformable pixel decoder, 200 queries,
# pre-trained on COCO, with the pixel contrast on Swin's last map (stride 32).
_base_ = './mask2former.py'
width = 256
coco_weights = (
    'checkpoints/mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic_'
    '20220407_104949-82f8d28d.pth'
)
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        type='SwinTransformer',
        embed_dims=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        pretrain_img_size=384,
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
    ),
    panoptic_head=dict(
        in_channels=[192, 384, 768, 1536],
        num_queries=200,
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
    strong_view=dict(type='StrongView'),
    pixel_contrast=dict(
        type='PixelContrastHead',
        in_channels=1536,
        preset='default',
        loss=dict(type='PixelContrastLoss', loss_weight=0.1),
    ),
    init_cfg=dict(type='Pretrained', checkpoint=coco_weights),
)
