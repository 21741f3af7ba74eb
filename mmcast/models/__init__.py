"""Models: backbones, pixel decoders, heads, losses, views, segmenters, detectors."""

from . import (
    backbones,
    dense_heads,
    detectors,
    losses,
    pixel_decoders,
    segmenters,
    views,
)

__all__ = [
    'backbones',
    'dense_heads',
    'detectors',
    'losses',
    'pixel_decoders',
    'segmenters',
    'views',
]
