"""Backbones that mmdet and mmpretrain lack."""

from .dinov2 import DINOv2
from .sam2_hiera import Sam2Hiera
from .swin import ImageNetSwin
from .vit_pyramid import ViTPyramid

__all__ = ['DINOv2', 'ImageNetSwin', 'Sam2Hiera', 'ViTPyramid']
