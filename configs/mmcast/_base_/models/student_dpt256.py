# The student: DINOv2-S, DPT of width 256, masked decoder of width 256 (55 M
# parameters; CAST publishes 52 M). lambda_pxl is pixel_contrast.loss.loss_weight.
_base_ = './mask2former.py'
dinov2_weights = (
    'https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth'
)
model = dict(
    data_preprocessor=dict(pad_size_divisor=14),
    backbone=dict(
        type='DINOv2',
        arch='dinov2-small',
        init_cfg=dict(type='Pretrained', checkpoint=dinov2_weights),
    ),
    panoptic_head=dict(
        in_channels=[384, 384, 384, 384],
        pixel_decoder=dict(
            type='DPTPixelDecoder', reassemble_channels=[96, 192, 384, 768]
        ),
    ),
    strong_view=dict(type='StrongView'),
    pixel_contrast=dict(
        type='PixelContrastHead',
        in_channels=384,
        downsample=2,
        preset='default',
        loss=dict(type='PixelContrastLoss', loss_weight=0.1),
    ),
)
