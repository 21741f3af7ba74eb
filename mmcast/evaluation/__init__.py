"""Metrics of depth and of semantic segmentation."""

from .depth_metric import DepthMetric
from .per_image_iou import PerImageSemSegMetric

__all__ = ['DepthMetric', 'PerImageSemSegMetric']
