# NYU Depth v2's 795 and 654 labelled images, 40 classes, depth to 10 m.
_base_ = './model.py'
num_classes = 40  # or 13, if converted so
load = [
    *_base_.load_image_and_labels,
    dict(type='LoadDepth', scale=1e-3),
]
pack = dict(type='PackDepthInputs', label_table=num_classes)
images = dict(type='NYUv2Dataset', data_root='data/nyuv2/', num_classes=num_classes)
train_dataloader = dict(
    _base_.train_loader,
    dataset=dict(
        images,
        split='train',
        pipeline=[
            *load,
            dict(type='ExactRandomCrop', crop_size=(480, 480)),
            dict(type='RandomFlip', prob=0.5),
            _base_.photometric,
            pack,
        ],
    ),
)
val_dataloader = dict(
    _base_.val_loader,
    dataset=dict(images, split='test', pipeline=[*load, pack], test_mode=True),
)
test_dataloader = val_dataloader
# Rows 45 to 471 and columns 41 to 601, where the depth camera sees.
depth_metric = dict(type='DepthMetric', max_depth=10.0, crop=(45, 471, 41, 601))
iou_metric = dict(type='SemSegMetric', iou_metrics=['mIoU'])
val_evaluator = [iou_metric, depth_metric]
test_evaluator = val_evaluator
model = dict(
    preset='default',  # PRESET is for Cityscapes
    backbone=dict(window_size=[30, 30, 30, 15]),
    depth_head=dict(depth_range=(1e-3, 10.0)),
    seg_head=dict(num_classes=num_classes),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=39600, val_interval=1980)
param_scheduler = dict(
    model=[dict(type='RiseAndFallLR', by_epoch=False)],
    critic=[],  # constant
)
default_hooks = dict(checkpoint=dict(interval=3960))
auto_scale_lr = dict(enable=False, base_batch_size=4)
