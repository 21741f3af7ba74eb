"""Transforms of the weak view and of its labels."""

from .loading import LoadPseudoAnnotations

__all__ = ['LoadPseudoAnnotations']
