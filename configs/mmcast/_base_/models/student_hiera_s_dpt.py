# CAST, Table 5: SAM 2.1's image encoder Hiera-S with DPT; its pyramid needs no
# reassembling.
_base_ = './student_dpt256.py'
hiera_weights = 'checkpoints/sam2.1-hiera-small/model.safetensors'
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type='Sam2Hiera',
        arch='small',
        init_cfg=dict(type='Pretrained', checkpoint=hiera_weights),
    ),
    panoptic_head=dict(
        in_channels=[96, 192, 384, 768],
        pixel_decoder=dict(reassemble_channels=None),
    ),
    pixel_contrast=dict(in_channels=768, downsample=1),
)
