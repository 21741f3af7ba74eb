"""Check COCO's run-length encoded masks; pycocotools does not check them."""

from typing import Any

import numpy as np


def is_whole(rle: dict[str, Any]) -> bool:
    """Check that the run lengths are valid and add up to the mask's size.

    pycocotools decodes a damaged string to uninitialised memory without an error. The
    format (its ``rleToString``): six bits per character, counted from '0'. Five of them
    are payload, lowest first; 0x20 means that more follow, 0x10 of the last is the
    sign. From the fourth run on, a run is stored as the difference to the run two
    before it.
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
