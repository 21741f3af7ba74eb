"""Check the masks of a COCO file before pycocotools takes memory for them."""

import math
from typing import Any

import numpy as np

from .rle import is_whole

# pycocotools takes about 50 bytes for each pixel of a polygon's outline.
_LONGEST = 1_000_000


def why_bad_mask(mask: Any, height: int, width: int) -> str | None:
    """Say why a mask cannot be decoded; None if it can.

    Args:
        mask: ``segmentation`` of an annotation: polygons or an RLE.
        height: The image's height in pixels.
        width: Its width.
    """
    if isinstance(mask, list):
        return next(filter(None, map(_why_unsafe, mask)), None)
    if not isinstance(mask, dict):
        return 'is neither polygons nor an RLE'
    size, counts = mask.get('size'), mask.get('counts')
    if not isinstance(size, list | tuple) or not isinstance(counts, list | str | bytes):
        return "is an RLE without 'size' or 'counts'"
    if list(size) != [height, width]:
        return f'is {"x".join(f"{side!r:.20}" for side in size[:2])}'
    if not is_whole({'size': [int(height), int(width)], 'counts': counts}):
        return f'has run lengths that do not add up to {height}x{width} pixels'
    return None


def why_bad_polygon(polygon: Any) -> str | None:
    """Say why a polygon encloses nothing or cannot be decoded; None if it is good.

    Args:
        polygon: x and y of each corner in turn, as in ``segmentation``.
    """
    unsafe = _why_unsafe(polygon)
    if unsafe:
        return unsafe
    if len(polygon) == 4:
        return "has four numbers in a polygon's place, as a box has"
    if len(polygon) < 6:
        return 'has a polygon of fewer than 3 points'
    if len(polygon) % 2:
        return 'has a polygon with an odd number of coordinates'
    if min(polygon) >= -0.01 and max(polygon) <= 1.01:  # rounded, or at the border
        return (
            'has a polygon from 0 to 1: multiply x by the width of the image, and y by '
            'its height'
        )
    return None


def _why_unsafe(polygon: Any) -> str | None:
    if not isinstance(polygon, list):
        return 'has a polygon that is no list of numbers'
    if not polygon:
        return None
    try:
        # Much faster than an array for each of a million polygons.
        low, high = min(polygon), max(polygon)
        finite = low >= -_LONGEST and high <= _LONGEST and not math.isnan(sum(polygon))
    except TypeError:
        return 'has a polygon that is no list of numbers'
    if not finite:
        return f'has a polygon with a coordinate beyond {_LONGEST} pixels, or with NaN'
    if len(polygon) * (high - low) <= _LONGEST or len(polygon) % 2:
        return None
    corners = np.array(polygon, float).reshape(-1, 2)
    steps = abs(corners - np.roll(corners, 1, axis=0)).max(1)
    if steps.sum() > _LONGEST:
        return f'has a polygon with an outline of over {_LONGEST} pixels'
    return None
