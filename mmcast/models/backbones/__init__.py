"""Backbones that mmdet and mmpretrain lack."""

from .dinov2 import DINOv2
from .sam2_hiera import Sam2Hiera

__all__ = ['DINOv2', 'Sam2Hiera']
