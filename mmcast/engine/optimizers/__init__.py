"""How parameters are optimised."""

from .no_norm_decay import NoNormDecayConstructor

__all__ = ['NoNormDecayConstructor']
