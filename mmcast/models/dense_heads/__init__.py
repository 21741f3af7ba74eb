"""Heads: Mask2Former, instances, the contrast's projection, depth and labels."""

from .depth_seg_heads import DepthHead, SemSegHead
from .instance_fusion_head import InstanceFusionHead
from .mask2former_head import SlicedMask2FormerHead
from .pixel_contrast_head import PixelContrastHead

__all__ = [
    'DepthHead',
    'InstanceFusionHead',
    'PixelContrastHead',
    'SemSegHead',
    'SlicedMask2FormerHead',
]
