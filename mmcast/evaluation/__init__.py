"""Metrics of instances, of depth and of semantic segmentation."""

from .depth_metric import DepthMetric
from .per_image_iou import PerImageSemSegMetric
from .shared_cityscapes_metric import SharedCityScapesMetric
from .windowed_coco_metric import WindowedCocoMetric

__all__ = [
    'DepthMetric',
    'PerImageSemSegMetric',
    'SharedCityScapesMetric',
    'WindowedCocoMetric',
]
