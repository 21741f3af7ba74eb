"""Turn a mask into prompts for SAM: points, a box, a mask of Gaussian shape.

What S4M (arXiv 2504.05301) and SAMRefiner (arXiv 2502.06756) ask of a mask that may be
wrong at its edge. Masks are bool arrays (H, W) with a pixel or more. Points are x, y of
a pixel's centre: the first pixel of an image is at 0.5, 0.5. Distances are Euclidean,
in pixels; the image's own border is not an edge of the mask.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

# SAMRefiner's code: the largest logit, and the share of the area that is the variance.
_STRENGTH = 30.0
_GAMMA = 4.0


class Prompts(NamedTuple):
    """What SAM 2 is told of n objects of an image.

    Attributes:
        points: Float (n, k, 2), x and y in pixels of the image; the first pixel's
            centre is at 0.5, 0.5.
        labels: Int (n, k): 1 inside the object, 0 outside, -1 no point.
        boxes: Float (n, 4), xyxy in pixels of the image; None for none.
        masks: Logits, float (n, h, w) of the whole image; None for none.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def to(self, device: torch.device) -> 'Prompts':
        """Return the same on a device."""
        moved: Any = (None if each is None else each.to(device) for each in self)
        return Prompts(*moved)


def box_of(mask: np.ndarray) -> np.ndarray:
    """Return the box around a mask, xyxy, float32 (4,); pixels have an area."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return np.array(box, np.float32)


def innermost_point(mask: np.ndarray) -> np.ndarray:
    """Return the pixel farthest from the outside, float32 (2,)."""
    window, corner = _window(mask)
    return _centre(int(_depth(window).argmax()), window.shape[1], corner)


def outermost_point(mask: np.ndarray) -> np.ndarray | None:
    """Return the pixel of the mask's box farthest from the mask, float32 (2,).

    None if the mask fills its box.
    """
    left, top, right, bottom = box_of(mask).astype(int)
    inside = mask[top:bottom, left:right]
    if inside.all():
        return None
    return _centre(int(_depth(~inside).argmax()), right - left, (left, top))


def draw_inner_points(
    mask: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    """Draw pixels of a mask in proportion to their distance from its edge.

    Different ones, if there are enough.

    Args:
        mask: The mask.
        count: Number of points.
        random: What draws them.

    Returns:
        Float32 (count, 2).
    """
    window, corner = _window(mask)
    inside = np.flatnonzero(window)
    weights = _depth(window).reshape(-1)[inside].astype(np.float64)
    drawn = random.choice(
        inside, count, replace=len(inside) < count, p=weights / weights.sum()
    )
    return np.stack([_centre(int(each), window.shape[1], corner) for each in drawn])


def gaussian_logits(mask: np.ndarray) -> np.ndarray:
    """Return logits that are sure at a mask's inside and unsure at its edge.

    Inside, ``30 * exp(-(d_max - d)^2 / (area / 4))`` of the distance ``d`` from the
    outside; -30 outside.

    Returns:
        Float32 (H, W).
    """
    window, (left, top) = _window(mask)
    depth = _depth(window)
    spread = max(float(window.sum()) / _GAMMA, 1.0)
    inside = np.exp(-np.square(depth.max() - depth) / spread)
    logits = np.full(mask.shape, -_STRENGTH, np.float32)
    height, width = window.shape
    logits[top : top + height, left : left + width] = _STRENGTH * np.where(
        window, inside, -1.0
    )
    return logits


def rough_mask(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a mask as a teacher might draw it: moved, too large or small, uneven.

    A pixel is inside if its distance from the edge, plus smooth noise, is positive.
    The noise has a standard deviation of up to a sixth of the object's size (the square
    root of its box's area) and a mean of up to a tenth of it; it moves by up to a
    fifteenth.

    Args:
        mask: Bool (H, W), with a pixel or more.
        random: What draws the noise.

    Returns:
        Bool (H, W); it may be empty.
    """
    left, top, right, bottom = box_of(mask).astype(int)
    size = float(np.sqrt((right - left) * (bottom - top)))
    rim = int(0.4 * size) + 2  # noise seldom reaches farther
    x, y = max(left - rim, 0), max(top - rim, 0)
    part = mask[y : bottom + rim, x : right + rim]
    signed = _depth(part) - _depth(~part)
    cells = int(random.integers(3, 10))
    noise: Any = random.normal(size=(cells, cells)).astype(np.float32)
    noise = cv2.resize(noise, part.shape[::-1], interpolation=cv2.INTER_CUBIC)
    signed += size * (random.uniform(0, 0.16) * noise + random.uniform(-0.1, 0.1))
    dx, dy = size * random.uniform(-0.07, 0.07, 2)
    moved = cv2.warpAffine(
        signed,
        np.array([[1, 0, dx], [0, 1, dy]], np.float32),
        part.shape[::-1],
        borderMode=cv2.BORDER_REPLICATE,
    )
    found = np.zeros_like(mask)
    found[y : bottom + rim, x : right + rim] = moved > 0
    return found


def _window(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Cut a mask out of its image, with a rim that has what is nearest outside.

    Returns:
        The part of the mask, and its left and top in the image.
    """
    left, top, right, bottom = box_of(mask).astype(int)
    left, top = max(left - 1, 0), max(top - 1, 0)
    return mask[top : bottom + 1, left : right + 1], (left, top)


def _depth(mask: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest pixel outside, float32 (H, W)."""
    if mask.all():  # the whole image: OpenCV would give its largest number
        return np.ones(mask.shape, np.float32)
    return cv2.distanceTransform(
        mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )


def _centre(place: int, width: int, corner: tuple[int, int]) -> np.ndarray:
    """Return the centre of a window's pixel in the image."""
    left, top = corner
    return np.array(
        [left + place % width + 0.5, top + place // width + 0.5], np.float32
    )
