"""Pixel decoders: mask features and three levels as mmdet's, or SwinMTL's one map."""

from .deconv import DeconvDecoder
from .dpt import DPTPixelDecoder
from .fpn import FPNPixelDecoder
from .mask_features import MaskFeatures

__all__ = ['DPTPixelDecoder', 'DeconvDecoder', 'FPNPixelDecoder', 'MaskFeatures']
