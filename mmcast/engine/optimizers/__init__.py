"""Optimiser constructors."""

from .no_norm_decay import NoNormDecayConstructor

__all__ = ['NoNormDecayConstructor']
