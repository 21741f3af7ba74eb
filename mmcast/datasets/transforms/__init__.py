"""Transforms: load images, instances, pseudo-labels and depth; flip; pack."""

from .colors import ColorDistortion
from .depth import ExactRandomCrop, LoadDepth, LoadLabelMap, PackDepthInputs
from .flips import RandomFlipSwapLabels
from .images import LoadImage, LoadUnlabeledImage
from .keep_image import KeepImage
from .loading import LoadInstances, LoadPseudoAnnotations
from .segments import PackSegments

__all__ = [
    'ColorDistortion',
    'ExactRandomCrop',
    'KeepImage',
    'LoadDepth',
    'LoadImage',
    'LoadInstances',
    'LoadLabelMap',
    'LoadPseudoAnnotations',
    'LoadUnlabeledImage',
    'PackDepthInputs',
    'PackSegments',
    'RandomFlipSwapLabels',
]
