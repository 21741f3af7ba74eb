"""Heads: Mask2Former, instances from its masks, and the contrast's projection."""

from .instance_fusion_head import InstanceFusionHead
from .mask2former_head import SlicedMask2FormerHead
from .pixel_contrast_head import PixelContrastHead

__all__ = ['InstanceFusionHead', 'PixelContrastHead', 'SlicedMask2FormerHead']
