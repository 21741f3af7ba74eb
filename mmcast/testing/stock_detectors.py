"""Detectors of MMDetection's zoo, made small, for tests and benchmarks."""

from pathlib import Path
from typing import Any

import mmdet
from mmengine import Config

from mmcast.models.detectors.with_classes import for_classes

from .reduced_configs import all_dicts, shrink_stock

ZOO = Path(mmdet.__file__).parent / '.mim/configs'

# Every kind of instance segmenter: its name here, and its config in the zoo.
FAMILIES = {
    'mask_rcnn': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'cascade_mask_rcnn': 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
    'htc': 'htc/htc-without-semantic_r50_fpn_1x_coco',
    'mask_scoring_rcnn': 'ms_rcnn/ms-rcnn_r50_fpn_1x_coco',
    'point_rend': 'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco',
    'rtmdet_ins': 'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco',
    'condinst': 'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance',
    'solo': 'solo/solo_r50_fpn_1x_coco',
    'solov2': 'solov2/solov2-light_r50_fpn_ms-3x_coco',
    'mask2former': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco',
    'maskformer': 'maskformer/maskformer_r50_ms-16xb1-75e_coco',
}


def stock_detector(family: str, num_classes: int = 8) -> Any:
    """Return the config of a small detector with random weights.

    Args:
        family: A key of ``FAMILIES``.
        num_classes: Number of classes.
    """
    model = Config.fromfile(ZOO / f'{FAMILIES[family]}.py').model
    model = for_classes(model, num_classes)
    model.data_preprocessor.pop('batch_augments', None)
    shrink_stock(model)
    head = model.get('panoptic_head')
    if head is not None:  # a masked decoder
        small = dict(embed_dims=32, num_feats=16, feedforward_channels=32, num_layers=1)
        head.update(
            in_channels=[8, 16, 32, 64],
            num_queries=10,
            feat_channels=32,
            out_channels=32,
        )
        for part in list(all_dicts(head)):
            part.update({key: value for key, value in small.items() if key in part})
        model.test_cfg.update(panoptic_on=False, instance_on=True, max_per_image=10)
        if 'num_points' in model.train_cfg:
            model.train_cfg.num_points = 64
    return model
