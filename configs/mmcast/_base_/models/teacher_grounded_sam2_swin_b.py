# The teacher with MM-Grounding-DINO Swin-B (mmdet's grounding_dino_swin-b_pretrain_all)
# and SAM 2.1 Hiera-B+.
_base_ = './teacher_grounded_sam2.py'
detector_weights = 'checkpoints/grounding_dino_swin-b_pretrain_all-f9818a7c.pth'
segmenter_weights = 'checkpoints/sam2.1-hiera-base-plus/model.safetensors'
made_by = {
    '_delete_': True,
    detector_weights: 'wget -P checkpoints https://download.openmmlab.com/mmdetection/'
    'v3.0/mm_grounding_dino/grounding_dino_swin-b_pretrain_all/'
    'grounding_dino_swin-b_pretrain_all-f9818a7c.pth',
    segmenter_weights: 'hf download facebook/sam2.1-hiera-base-plus model.safetensors '
    '--local-dir checkpoints/sam2.1-hiera-base-plus',
}
levels = 4
model = dict(
    detector=dict(
        num_feature_levels=levels,
        backbone=dict(
            embed_dims=128,
            num_heads=[4, 8, 16, 32],
            drop_path_rate=0.3,
            out_indices=(1, 2, 3),
        ),
        neck=dict(in_channels=[256, 512, 1024], num_outs=levels),
        encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=levels))),
        decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=levels))),
        init_cfg=dict(checkpoint=detector_weights),
    ),
    segmenter=dict(arch='base-plus', init_cfg=dict(checkpoint=segmenter_weights)),
)
