# DINOv2's ViT-L/14; its last patch tokens become a pyramid.
_base_ = './student_dinov2_b.py'
model = dict(
    backbone=dict(
        vit=dict(arch='large', out_indices=[23]),
        init_cfg=dict(
            checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/'
            'dinov2_vitl14_pretrain.pth',
        ),
    ),
)
