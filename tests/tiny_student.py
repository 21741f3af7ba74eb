"""Build a tiny real student, its wrapper, and batches of rectangles."""

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.structures import InstanceData

BASE = 'configs/mmcast/_base_/models'


def student_config(**changes):
    config = Config.fromfile(f'{BASE}/student_synthscapes.py')
    config.merge_from_dict(
        {
            'model.train_cfg.num_points': 64,
            'model.panoptic_head.num_queries': 12,
            **{f'model.{key}': value for key, value in changes.items()},
        }
    )
    return config.model


def wrapper(teacher=None, student=None, **kwargs):
    student = student or student_config()
    return MODELS.build(
        dict(
            type='SemiSupervisedSegmentor',
            student=student,
            teacher=teacher,
            **kwargs,
        )
    )


def sample(height, width, count=3, padded=None):
    """Make a data sample with `count` upright rectangles."""
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        batch_input_shape=padded or (height, width),
    )
    masks = np.zeros((count, height, width), np.uint8)
    for i in range(count):
        masks[i, 8 : height - 8, 20 * i + 4 : 20 * i + 18] = 1
    sample = DetDataSample(metainfo=meta)
    sample.gt_instances = InstanceData(
        labels=torch.arange(count) % 8, masks=BitmapMasks(masks, height, width)
    )
    return sample


def batch(count=2, height=64, width=96):
    images = torch.randn(count, 3, height, width)
    return images, [sample(height, width) for _ in range(count)]


def both(sup=None, unsup=None):
    (x, a), (y, b) = sup or batch(), unsup or batch()
    return dict(sup=x, unsup=y), dict(sup=a, unsup=b)


def seeded(function, *args):
    torch.manual_seed(1)
    return function(*args)
