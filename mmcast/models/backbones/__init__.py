"""Backbones that mmdet and mmpretrain lack."""

from .dinov2 import DINOv2
from .sam2_hiera import Sam2Hiera
from .simmim_swin_v2 import SimMIMSwinV2
from .swin import ImageNetSwin
from .swin_v2 import SwinV2
from .vit_pyramid import ViTPyramid

__all__ = [
    'DINOv2',
    'ImageNetSwin',
    'Sam2Hiera',
    'SimMIMSwinV2',
    'SwinV2',
    'ViTPyramid',
]
