# DeiT-B/16 of 384x384 pixels, of which the last patch tokens become a pyramid.
_base_ = './dinov2_b.py'
network = dict(
    backbone=dict(
        vit=dict(
            _delete_=True,
            type='mmpretrain.VisionTransformer',
            arch='deit-base',
            img_size=384,
            patch_size=16,
            out_type='featmap',
        ),
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmclassification/v0/deit/'
            'deit-base_3rdparty_ft-16xb32_in1k-384px_20211124-822d02f2.pth',
        ),
    ),
)
