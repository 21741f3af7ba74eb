"""Detectors: the contrast-trained Mask2Former and the teacher-student wrapper."""

from .pixel_contrast_mask2former import PixelContrastMask2Former
from .semi_supervised_segmentor import SemiSupervisedSegmentor

__all__ = ['PixelContrastMask2Former', 'SemiSupervisedSegmentor']
