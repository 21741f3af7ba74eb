"""Transforms that keep the loaded image, and load annotations and pseudo-labels."""

from .keep_image import KeepImage
from .loading import LoadInstances, LoadPseudoAnnotations

__all__ = ['KeepImage', 'LoadInstances', 'LoadPseudoAnnotations']
