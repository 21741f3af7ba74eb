"""Average dense predictions over windows and over the mirrored image."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

Maps = dict[str, Tensor]
Predict = Callable[[Tensor], Maps]


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows start, so that they cover every pixel.

    The last window ends with the image, so it may overlap more than the others. A
    window longer than the image becomes as long as it.

    Args:
        length: Pixels of the image along an axis.
        window: Pixels of a window.
        stride: Distance of two windows.

    Raises:
        ValueError: Windows would leave pixels out.
    """
    if not 0 < stride <= window:
        raise ValueError(
            f'test_cfg has a stride of {stride} and a window of {window}: give a '
            'positive stride, not greater than the window'
        )
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def predict_windows(
    predict: Predict, images: Tensor, window: Sequence[int], stride: Sequence[int]
) -> Maps:
    """Average predictions over overlapping windows; each pixel by its coverage.

    Args:
        predict: Maps float (N, C, h, w) for images float (N, 3, h, w).
        images: Float (N, 3, H, W).
        window: Height and width of a window.
        stride: Distances of windows.

    Returns:
        The maps of the whole images.
    """
    height, width = images.shape[-2:]
    total: Maps = {}
    count = images.new_zeros(1, 1, height, width)
    rows = window_starts(height, window[0], stride[0])
    columns = window_starts(width, window[1], stride[1])
    for top, left in product(rows, columns):
        place = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        count[place] += 1
        for name, part in predict(images[place]).items():
            if name not in total:
                total[name] = part.new_zeros(*part.shape[:2], height, width)
            total[name][place] += part
    return {name: sums / count for name, sums in total.items()}


def predict_flipped(predict: Predict, images: Tensor) -> Maps:
    """Average predictions over images and mirrored images, float (N, 3, H, W)."""
    both = predict(torch.cat([images, images.flip(-1)]))
    return {
        name: (maps[: len(images)] + maps[len(images) :].flip(-1)) / 2
        for name, maps in both.items()
    }
