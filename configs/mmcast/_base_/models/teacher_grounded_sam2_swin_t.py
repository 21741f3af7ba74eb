# The teacher with MM-Grounding-DINO Swin-T (mmdet's
# grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det) and SAM 2.1 Hiera-T.
_base_ = './teacher_grounded_sam2.py'
detector_weights = (
    'checkpoints/grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det_'
    '20231204_095047-b448804b.pth'
)
segmenter_weights = 'checkpoints/sam2.1-hiera-tiny/model.safetensors'
made_by = {
    '_delete_': True,
    detector_weights: 'mim download mmdet --config '
    'grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det --dest checkpoints',
    segmenter_weights: 'hf download facebook/sam2.1-hiera-tiny model.safetensors '
    '--local-dir checkpoints/sam2.1-hiera-tiny',
}
levels = 4
model = dict(
    detector=dict(
        num_feature_levels=levels,
        backbone=dict(
            pretrain_img_size=224,
            embed_dims=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            out_indices=(1, 2, 3),
        ),
        neck=dict(in_channels=[192, 384, 768], num_outs=levels),
        encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=levels))),
        decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=levels))),
        init_cfg=dict(checkpoint=detector_weights),
    ),
    segmenter=dict(arch='tiny', init_cfg=dict(checkpoint=segmenter_weights)),
)
