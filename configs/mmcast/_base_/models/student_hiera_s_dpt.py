# CAST, Table 5: SAM 2.1's image encoder Hiera-S with DPT.
_base_ = './mask2former_dpt.py'
weights = 'checkpoints/sam2.1-hiera-small/model.safetensors'
made_by = {
    weights: 'hf download facebook/sam2.1-hiera-small model.safetensors --local-dir '
    'checkpoints/sam2.1-hiera-small'
}
model = dict(
    backbone=dict(
        type='Sam2Hiera',
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint=weights),
    ),
    panoptic_head=dict(in_channels=[96, 192, 384, 768]),
    pixel_contrast=dict(in_channels=768),
)
