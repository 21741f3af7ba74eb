"""Transforms of the weak view and of its labels."""

from .keep_image import KeepImage
from .loading import LoadPseudoAnnotations

__all__ = ['KeepImage', 'LoadPseudoAnnotations']
