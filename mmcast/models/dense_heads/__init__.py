"""Heads: Mask2Former for any pixel decoder, and the contrast's projection."""

from .mask2former_head import SlicedMask2FormerHead
from .pixel_contrast_head import PixelContrastHead

__all__ = ['PixelContrastHead', 'SlicedMask2FormerHead']
