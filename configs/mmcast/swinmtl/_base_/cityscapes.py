# Cityscapes' labels, disparity and cameras, and SwinMTL's published augmentation.
_base_ = './model.py'
cityscapes_root = 'data/cityscapes/'
load = [
    *_base_.load_image_and_labels,
    # Label 1 is the ego vehicle, which the disparity does not know.
    dict(type='LoadDepth', disparity=True, invalid_labels=[1], preset=_base_.preset),
]
pack = dict(type='PackDepthInputs', label_table=_base_.label_table)
train_pipeline = [
    *load,
    dict(type='ExactRandomCrop', crop_size=(480, 480)),
    dict(type='RandomFlip', prob=0.5),
    _base_.photometric,
    pack,
]
test_pipeline = [*load, pack]
images = dict(
    type='CityscapesDepthDataset', data_root=cityscapes_root, void=_base_.void
)
folders = dict(
    img_path='leftImg8bit/{}',
    seg_map_path='gtFine/{}',
    depth_path='disparity/{}',
    camera_path='camera/{}',
)
train_dataloader = dict(
    _base_.train_loader,
    dataset=dict(
        images,
        data_prefix={kind: path.format('train') for kind, path in folders.items()},
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    _base_.val_loader,
    dataset=dict(
        images,
        data_prefix={kind: path.format('val') for kind, path in folders.items()},
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
depth_metric = dict(type='DepthMetric', max_depth=80.0, **_base_.silog)
val_evaluator = [_base_.iou_metric, depth_metric]
test_evaluator = val_evaluator
# 200 epochs of 743 batches; validated every 10, saved every 20.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=148600, val_interval=7430)
param_scheduler = dict(
    model=[dict(type='RiseAndFallLR', by_epoch=False)],
    critic=[],  # constant
)
default_hooks = dict(checkpoint=dict(interval=14860))
auto_scale_lr = dict(enable=False, base_batch_size=4)
