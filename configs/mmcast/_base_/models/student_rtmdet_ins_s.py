# RTMDet-Ins-s (10.2 M parameters), from the zoo's weights of 300 epochs on COCO. The
# optimiser is the zoo's, with the rate for 8 images. Images are padded to the batch's
# largest.
zoo = 'https://download.openmmlab.com/mmdetection/v3.0/rtmdet/'
norm_cfg = dict(type='SyncBN')
act_cfg = dict(type='SiLU', inplace=True)
width = 128
model = dict(
    type='WithClasses',
    detector_type='RTMDet',
    num_classes=8,  # an entry point gives its own number
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='CSPNeXt',
        arch='P5',
        expand_ratio=0.5,
        deepen_factor=0.33,
        widen_factor=0.5,
        channel_attention=True,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    neck=dict(
        type='CSPNeXtPAFPN',
        in_channels=[width, 2 * width, 4 * width],
        out_channels=width,
        num_csp_blocks=1,
        expand_ratio=0.5,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    bbox_head=dict(
        type='RTMDetInsSepBNHead',
        num_classes=8,
        in_channels=width,
        stacked_convs=2,
        share_conv=True,
        pred_kernel_size=1,
        feat_channels=width,
        act_cfg=act_cfg,
        norm_cfg=dict(norm_cfg, requires_grad=True),
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(
            type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0
        ),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_mask=dict(type='DiceLoss', loss_weight=2.0, eps=5e-6, reduction='mean'),
    ),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
        mask_thr_binary=0.5,
    ),
    init_cfg=dict(
        type='Pretrained',
        checkpoint=zoo + 'rtmdet-ins_s_8xb32-300e_coco/'
        'rtmdet-ins_s_8xb32-300e_coco_20221121_212604-fdc5d7ec.pth',
    ),
)
# On COCO itself, the zoo's start of such a training.
imagenet = zoo + 'cspnext_rsb_pretrain/cspnext-s_imagenet_600e.pth'
on_coco = dict(
    init_cfg=None,
    backbone=dict(
        init_cfg=dict(type='Pretrained', prefix='backbone.', checkpoint=imagenet)
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.004 * 8 / 256, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000)
]
