"""Detectors: students, teachers, the teacher-student wrapper, SwinMTL."""

from .box_prompted_segmentor import BoxPromptedSegmentor
from .grounded_sam2 import GroundedSam2
from .pixel_contrast_mask2former import PixelContrastMask2Former
from .semi_supervised_segmentor import SemiSupervisedSegmentor
from .swin_mtl import SwinMTL
from .with_classes import with_classes

__all__ = [
    'BoxPromptedSegmentor',
    'GroundedSam2',
    'PixelContrastMask2Former',
    'SemiSupervisedSegmentor',
    'SwinMTL',
    'with_classes',
]
