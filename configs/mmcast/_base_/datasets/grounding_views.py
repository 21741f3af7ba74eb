# Views for Grounding-DINO: mmdet's augmentation, as in CAST's research code.
sides = [(480 + 32 * k, 1333) for k in range(11)]  # short side, limit of the long side
resize = dict(type='RandomChoiceResize', scales=sides, keep_ratio=True)
grounding_view = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [resize],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(400, 4200), (500, 4200), (600, 4200)],
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                resize,
            ],
        ],
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
]
load_and_keep = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='KeepImage'),  # SAM 2 resizes it by itself
]
annotate_and_pack = [
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'image',
        ),
    ),
]
# The detector learns from its own boxes, so no overlap is removed from them.
box_labels = dict(boxes='stored', remove_overlap=False)
