"""Transforms that keep the loaded image and load pseudo-labels."""

from .keep_image import KeepImage
from .loading import LoadPseudoAnnotations

__all__ = ['KeepImage', 'LoadPseudoAnnotations']
