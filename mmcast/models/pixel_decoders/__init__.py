"""Pixel decoders with the interface of mmdet's: masks and three levels."""

from .dpt import DPTPixelDecoder
from .fpn import FPNPixelDecoder

__all__ = ['DPTPixelDecoder', 'FPNPixelDecoder']
