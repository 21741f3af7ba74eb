# A large Mask2Former as teacher: Swin-L, 200 queries, pre-trained on COCO, with the
# pixel contrast on Swin's last map (stride 32).
_base_ = './mask2former_deformable.py'
weights = (
    'checkpoints/mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic_'
    '20220407_104949-82f8d28d.pth'
)
made_by = {
    weights: 'mim download mmdet --config '
    'mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic '
    '--dest checkpoints'
}
model = dict(
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
    panoptic_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200),
    pixel_contrast=dict(in_channels=1536),
    init_cfg=dict(type='Pretrained', checkpoint=weights),
)
