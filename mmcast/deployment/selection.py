"""Boxes of dense heads and which of them stay, for a whole batch at once.

Everything has a fixed number of rows: what does not count has the score 0.
"""

from typing import Any

import torch
from torch import Tensor

from mmcast.deployment.operators import suppress


def check_suppression(config: Any) -> float:
    """Return the IoU threshold of a suppression.

    Raises:
        ValueError: It is no plain one within classes.
    """
    if config.get('type', 'nms') != 'nms':
        raise ValueError(
            f"test_cfg's suppression {config.type!r} is not exported: set type='nms'"
        )
    known = {'type', 'iou_threshold', 'iou_thr', 'split_thr'}
    unknown = [name for name, value in config.items() if value and name not in known]
    if unknown:
        raise ValueError(
            f"the option {unknown[0]!r} of test_cfg's suppression is not exported: "
            'leave it out'
        )
    return float(config.get('iou_threshold', config.get('iou_thr')))


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the best scores of a level's maps.

    Args:
        scores: float (B, C, h, w).
        count: How many to choose.

    Returns:
        Scores (B, count), best first; their channel and their cell, int64 (B, count).
        If there are fewer, the rest has the score 0.
    """
    # The best scores are in the cells whose best channel is among the best: this looks
    # for them in a small part of the map.
    of_cells = scores.amax(1).flatten(1)
    nothing = of_cells.new_zeros(of_cells.shape[0], count)
    values, cells = torch.cat([of_cells, nothing], 1).topk(count)
    cells = torch.where(values > 0, cells, 0)
    some = taken(scores, cells)  # (B, count, C)
    some = torch.where((values > 0)[..., None], some, 0)
    values, index = some.flatten(1).topk(count)
    place, channel = _split(index, scores.shape[1])
    return values, channel, cells.gather(1, place)


def taken(maps: Tensor, cells: Tensor) -> Tensor:
    """Return what maps (B, C, h, w) have in cells (B, N), (B, N, C)."""
    places = cells[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, places).transpose(1, 2)


def rows(values: Tensor, index: Tensor) -> Tensor:
    """Return rows (B, K) of values (B, N, ...), (B, K, ...)."""
    if values.dim() == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def corners(width: int, cells: Tensor, stride: int, offset: float) -> Tensor:
    """Return x and y of a level's cells (B, N) in pixels, (B, N, 2)."""
    row, column = _split(cells, width)
    place = torch.stack([column, row], dim=-1)
    return (place + offset) * stride


def clipped(boxes: Tensor, size: Tensor) -> Tensor:
    """Cut boxes (..., 4) off at an image's height and width, (2,)."""
    most = size.flip(0).repeat(2).to(boxes.dtype)
    return boxes.clamp(min=0).minimum(most)


def scale_factor(size: Tensor, original: Tensor) -> Tensor:
    """Return by what the resize multiplied x1, y1, x2 and y2, float32 (4,)."""
    return (size.double() / original.double()).flip(0).repeat(2).float()


def large_enough(boxes: Tensor, scores: Tensor, least: float) -> Tensor:
    """Return the scores (B, N), 0 where a side of the box (B, N, 4) is not larger."""
    if least < 0:
        return scores
    sides = boxes[..., 2:] - boxes[..., :2]
    return torch.where((sides > least).all(-1), scores, 0)


def suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thr: float) -> Tensor:
    """Suppress within groups, as mmcv's ``batched_nms`` does.

    Args:
        boxes: (B, N, 4).
        scores: (B, N).
        groups: Class or level of each, int64 (B, N).
        iou_thr: See :func:`~mmcast.deployment.operators.suppress`.

    Returns:
        The scores, 0 of what is suppressed.
    """
    # Each group far away from all others.
    counted = torch.where((scores > 0)[..., None], boxes, 0)
    step = counted.flatten(1).amax(1) + 1
    moved = boxes + (groups * step[:, None])[..., None]
    return torch.where(suppress(moved, scores, iou_thr), scores, 0)


def most_of_any(scores: Tensor) -> int:
    """Return how many of (B, K) count in the fullest image, but at least 1."""
    # A symbol while it is exported, so it must not become an int.
    count: Any = (scores > 0).sum(1).amax(0).clamp(min=1).item()
    torch._check(count >= 1)
    torch._check(count <= scores.shape[1])
    return count


def _split(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return quotient and rest; the exporter has no rest of a division by a shape."""
    quotient = index // size
    return quotient, index - quotient * size
