"""COCO run-length encoded masks: what pycocotools does not offer."""

from typing import Any

import numpy as np
from pycocotools import mask as mask_utils


def to_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Polygons, uncompressed or compressed RLE to compressed RLE."""
    if isinstance(segmentation, list):
        return mask_utils.merge(mask_utils.frPyObjects(segmentation, *size))
    if isinstance(segmentation['counts'], list):
        return mask_utils.frPyObjects(segmentation, *size)
    return segmentation


def is_whole(rle: dict[str, Any]) -> bool:
    """Whether the run lengths are valid and add up to the mask's size.

    pycocotools decodes a damaged string to uninitialised memory without complaint.
    The format (its ``rleToString``): six bits a character from '0' on, five of
    them payload, lowest first, 0x20 = more follow, 0x10 of the last = sign; from
    the fourth run on the difference to the run before the last.
    """
    codes = np.frombuffer(rle['counts'].encode(), np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        return False
    last = (codes & 0x20) == 0
    starts = np.flatnonzero(np.concatenate(([True], last[:-1])))
    lengths = np.diff(np.append(starts, codes.size))
    if lengths.max() > 7:
        return False
    shift = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 0x1F) << shift, starts)
    runs -= np.where(codes[last] & 0x10, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return bool(runs.min() >= 0 and runs.sum() == rle['size'][0] * rle['size'][1])
