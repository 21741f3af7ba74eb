"""Models: backbones, pixel decoders, heads, losses, views and detectors."""

from . import backbones, dense_heads, detectors, losses, pixel_decoders, views

__all__ = [
    'backbones',
    'dense_heads',
    'detectors',
    'losses',
    'pixel_decoders',
    'views',
]
