"""Operators whose sizes depend on values, which torch's exporter cannot follow.

Here they compute with torch; :mod:`mmcast.deployment.translations` has each in ONNX's
own operators.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms, roi_align


@torch.library.custom_op('mmcast::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_thr: float) -> Tensor:
    """Suppress boxes of each group that overlap a better one.

    Args:
        boxes: x1, y1, x2, y2, float (G, N, 4).
        scores: float (G, N); those above 0 count.
        iou_thr: Two boxes may overlap by this IoU.

    Returns:
        bool (G, N), what stays.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for each, values, row in zip(boxes, scores, keep, strict=True):
        counted = (values > 0).nonzero()[:, 0]
        row[counted[nms(each[counted], values[counted], iou_thr)]] = True
    return keep


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_thr: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op('mmcast::resized', mutates_args=())
def resized(maps: Tensor, size: Tensor) -> Tensor:
    """Resize maps bilinearly.

    Args:
        maps: float (M, h, w).
        size: Height and width of the result, int64 (2,).

    Returns:
        float (M, height, width).
    """
    height, width = size.tolist()
    if maps.shape[1:] == (height, width):
        return maps.clone()
    return F.interpolate(maps[None], (height, width), mode='bilinear')[0]


@torch.library.custom_op('mmcast::placed', mutates_args=())
def placed(maps: Tensor, size: Tensor) -> Tensor:
    """Cut maps at the right and below, or fill them with zeros there.

    Args:
        maps: (M, h, w).
        size: Height and width of the result, int64 (2,).

    Returns:
        (M, height, width) of the same dtype.
    """
    height, width = size.tolist()
    rows, columns = maps.shape[1:]
    return F.pad(maps, (0, width - columns, 0, height - rows)).clone()


@torch.library.custom_op('mmcast::pasted', mutates_args=())
def pasted(maps: Tensor, boxes: Tensor, size: Tensor) -> Tensor:
    """Stretch a map over each box of an image; outside it is 0.

    Args:
        maps: float (M, h, w).
        boxes: x1, y1, x2, y2 in pixels, float (M, 4).
        size: Height and width of the image, int64 (2,).

    Returns:
        float (M, height, width).
    """
    height, width = size.tolist()
    rows = _weights(boxes[:, 1], boxes[:, 3], height, maps.shape[1])
    columns = _weights(boxes[:, 0], boxes[:, 2], width, maps.shape[2])
    return rows @ maps @ columns.transpose(1, 2)


def _weights(start: Tensor, end: Tensor, length: int, cells: int) -> Tensor:
    """Return how much of each cell of a map a pixel takes, (M, length, cells)."""
    pixels = torch.arange(length) + 0.5
    # In cells; a box without width has no inside.
    side = (end - start).clamp(min=1e-6)
    # In the order in which `grid_sample` rounds.
    at = (pixels - start[:, None]) / side[:, None] * 2 - 1
    at = ((at + 1) * cells - 1) / 2
    return (1 - (at[..., None] - torch.arange(cells)).abs()).clamp(min=0)


@torch.library.custom_op('mmcast::features_of_boxes', mutates_args=())
def features_of_boxes(
    maps: list[Tensor],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    strides: list[int],
    size: int,
    samples: int,
    aligned: bool,
) -> Tensor:
    """Take each box's features from one of several maps, by RoIAlign.

    Args:
        maps: Fine to coarse, each float (B, C, h, w).
        boxes: x1, y1, x2, y2 in pixels of the image, float (N, 4).
        images: Which image of the batch, int64 (N,).
        levels: Which of the maps, int64 (N,).
        strides: Pixels a cell of each map.
        size: Height and width of the result.
        samples: Samples a cell and axis; 0 for as many as the box's size asks for.
        aligned: Whether a cell's centre is at half its width.

    Returns:
        float (N, C, size, size).
    """
    found = maps[0].new_zeros(len(boxes), maps[0].shape[1], size, size)
    rois = torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)
    for level, (each, stride) in enumerate(zip(maps, strides, strict=True)):
        rows = (levels == level).nonzero()[:, 0]
        found[rows] = roi_align(
            each, rois[rows], size, 1 / stride, samples, aligned=aligned
        )
    return found


@features_of_boxes.register_fake
def _(
    maps: list[Tensor],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    strides: list[int],
    size: int,
    *rest: object,
) -> Tensor:
    return maps[0].new_empty(boxes.shape[0], maps[0].shape[1], size, size)


def _of_some_size(maps: Tensor, *rest: Tensor) -> Tensor:
    context = torch.library.get_ctx()
    height, width = context.new_dynamic_size(), context.new_dynamic_size()
    return maps.new_empty(maps.shape[0], height, width)


for each in (resized, placed, pasted):
    each.register_fake(_of_some_size)
