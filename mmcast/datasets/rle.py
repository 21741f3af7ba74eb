"""Check COCO's run-length encoded masks; pycocotools does not check them."""

from typing import Any

import numpy as np

# Its run lengths fit into six characters, which pycocotools reads without overflow.
MOST_PIXELS = 1 << 29


def is_size(size: Any) -> bool:
    """Check that a value is a height and a width of a mask that can be decoded."""
    return (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
        and size[0] * size[1] < MOST_PIXELS
    )


def is_whole(rle: Any) -> bool:
    """Check that a value is an RLE whose run lengths add up to the mask's size.

    It takes memory for the runs only, and raises nothing. ``counts`` may be compressed
    (str or bytes) or a list of run lengths.

    pycocotools decodes a damaged string to uninitialised memory without an error. The
    format (its ``rleToString``): six bits per character, counted from '0'. Five of them
    are payload, lowest first; 0x20 means that more follow, 0x10 of the last is the
    sign. From the fourth run on, a run is stored as the difference to the run two
    before it.
    """
    if not isinstance(rle, dict) or not is_size(rle.get('size')):
        return False
    pixels = rle['size'][0] * rle['size'][1]
    text = rle.get('counts')
    if isinstance(text, list):
        return all(type(run) is int and run >= 0 for run in text) and (
            sum(text) == pixels
        )
    if isinstance(text, str) and text.isascii():
        text = text.encode()
    if not isinstance(text, bytes) or not 0 < len(text) <= 6 * (pixels + 1):
        return False
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        return False
    last = (codes & 0x20) == 0
    starts = np.flatnonzero(np.concatenate(([True], last[:-1])))
    lengths = np.diff(np.append(starts, codes.size))
    if lengths.max() > 6:
        return False
    shift = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 0x1F) << shift, starts)
    runs -= np.where(codes[last] & 0x10, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return bool(runs.min() >= 0 and runs.sum() == pixels)
