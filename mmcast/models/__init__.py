"""Models: backbones, pixel decoders, heads, losses, views, segmenters, detectors."""

from . import (
    backbones,
    dense_heads,
    depth_seg_preprocessor,
    detectors,
    losses,
    pixel_decoders,
    segmenters,
    views,
)

__all__ = [
    'backbones',
    'dense_heads',
    'depth_seg_preprocessor',
    'detectors',
    'losses',
    'pixel_decoders',
    'segmenters',
    'views',
]
