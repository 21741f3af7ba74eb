"""Transforms: keep the image; load instances, pseudo-labels and depth; pack."""

from .depth import ExactRandomCrop, LoadDepth, PackDepthInputs
from .keep_image import KeepImage
from .loading import LoadInstances, LoadPseudoAnnotations, LoadUnlabeledImage

__all__ = [
    'ExactRandomCrop',
    'KeepImage',
    'LoadDepth',
    'LoadInstances',
    'LoadPseudoAnnotations',
    'LoadUnlabeledImage',
    'PackDepthInputs',
]
