"""Segmenters that turn boxes into masks, and the interface they share."""

from .base import BoxSegmenter
from .crop import CropSegmenter
from .sam2 import Sam2Segmenter

__all__ = ['BoxSegmenter', 'CropSegmenter', 'Sam2Segmenter']
