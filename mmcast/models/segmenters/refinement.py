"""Refine masks with SAM 2: each mask becomes a prompt, as published.

S4M (arXiv 2504.05301) draws three points of a mask; SAMRefiner (arXiv 2502.06756) gives
points, box and a mask of Gaussian shape, five times, each time of its last answer. Both
take the best of SAM 2's three masks by predicted IoU. What differs here: S4M draws by
the network's certainty of each pixel, which stored masks do not have, so the distance
from the mask's edge takes its place. SAMRefiner's elastic box, off in its code, is left
out.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .mask_prompts import (
    Prompts,
    box_of,
    draw_inner_points,
    gaussian_logits,
    innermost_point,
    outermost_point,
)
from .sam2 import Sam2Segmenter

_POINTS = 3
_ROUNDS = 5


def refine_masks(
    segmenter: Sam2Segmenter,
    image: Tensor,
    masks: Sequence[np.ndarray],
    recipe: str,
    random: np.random.Generator,
    chunk: int = 32,
) -> list[tuple[np.ndarray, float]]:
    """Refine the masks of one image, which is encoded once.

    Args:
        segmenter: SAM 2.
        image: RGB, (3, H, W), uint8.
        masks: Bool (H, W) each, with a pixel or more.
        recipe: ``'s4m'`` or ``'samrefiner'``.
        random: Draws S4M's points, for one mask after the other.
        chunk: Masks that run together; bounds the memory.

    Returns:
        For each mask a better one, bool (H, W), and its predicted IoU. Where SAM 2
        finds no pixel, the mask stays.
    """
    prompt, rounds = RECIPES[recipe]
    encoded = segmenter.encode(image)
    found: list[tuple[np.ndarray, float]] = []
    for start in range(0, len(masks), chunk):
        current = list(masks[start : start + chunk])
        scores = torch.zeros(0)
        for _ in range(rounds):
            prompts = prompt(current, segmenter.mask_size, random).to(image.device)
            size = current[0].shape
            logits, scores = segmenter.best_of_three(encoded, prompts, size)
            current = [
                _mask(each, old) for each, old in zip(logits, current, strict=True)
            ]
        found += zip(current, scores.clamp(0, 1).tolist(), strict=True)
    return found


def s4m_prompts(
    masks: Sequence[np.ndarray], size: tuple[int, int], random: np.random.Generator
) -> Prompts:
    """Return three positive points of each mask."""
    points = [draw_inner_points(mask, _POINTS, random) for mask in masks]
    labels = torch.ones(len(masks), _POINTS, dtype=torch.int)
    return Prompts(torch.from_numpy(np.stack(points)), labels)


def samrefiner_prompts(
    masks: Sequence[np.ndarray], size: tuple[int, int], random: np.random.Generator
) -> Prompts:
    """Return two points, box and Gaussian mask of each mask.

    The points are the innermost one, and the one outside in the box that is farthest
    from the mask, if there is any.
    """
    points = np.zeros((len(masks), 2, 2), np.float32)
    labels = torch.tensor([[1, 0]], dtype=torch.int).repeat(len(masks), 1)
    for i, mask in enumerate(masks):
        points[i, 0] = innermost_point(mask)
        outside = outermost_point(mask)
        if outside is None:
            labels[i, 1] = -1
        else:
            points[i, 1] = outside
    logits = [
        cv2.resize(gaussian_logits(mask), size[::-1], interpolation=cv2.INTER_AREA)
        for mask in masks
    ]
    return Prompts(
        torch.from_numpy(points),
        labels,
        torch.from_numpy(np.stack([box_of(mask) for mask in masks])),
        torch.from_numpy(np.stack(logits)),
    )


# What makes the prompts, and how often.
RECIPES: dict[str, tuple[Callable[..., Prompts], int]] = {
    's4m': (s4m_prompts, 1),
    'samrefiner': (samrefiner_prompts, _ROUNDS),
}


def _mask(logits: Tensor, old: np.ndarray) -> np.ndarray:
    """Return the mask of logits, float (s, s), in the old one's size."""
    height, width = old.shape
    enlarged = F.interpolate(
        logits[None, None].float(), (height, width), mode='bilinear'
    )
    found = (enlarged[0, 0] > 0).cpu().numpy()
    return found if found.any() else old
