# Mask R-CNN with ResNet-50 and FPN, from the zoo's weights of 36 epochs on COCO. The
# optimiser is the zoo's, with the rate for 8 images.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
start = (
    'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/'
    'mask_rcnn_r50_fpn_mstrain-poly_3x_coco/'
    'mask_rcnn_r50_fpn_mstrain-poly_3x_coco_20210524_201154-21b550bb.pth'
)
# On COCO itself, the zoo's start of such a training.
imagenet = dict(_base_.model.backbone.init_cfg, _delete_=True)
on_coco = dict(init_cfg=None, backbone=dict(init_cfg=imagenet))
model = dict(
    type='WithClasses',
    detector_type='MaskRCNN',
    num_classes=8,  # an entry point gives its own number
    backbone=dict(init_cfg=None),
    init_cfg=dict(type='Pretrained', checkpoint=start),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
]
