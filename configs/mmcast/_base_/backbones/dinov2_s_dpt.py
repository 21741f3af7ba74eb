# CAST's student, DINOv2-S with DPT, as student_dpt256.py has it.
network = dict(
    data_preprocessor=dict(pad_size_divisor=14),
    backbone=dict(
        _delete_=True,
        type='DINOv2',
        arch='dinov2-small',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/'
            'dinov2_vits14_pretrain.pth',
        ),
    ),
    panoptic_head=dict(
        in_channels=[384, 384, 384, 384],
        pixel_decoder=dict(
            _delete_=True,
            type='DPTPixelDecoder',
            reassemble_channels=[96, 192, 384, 768],
        ),
    ),
)
