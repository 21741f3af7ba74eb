"""Pseudo-labels from a masked decoder's logits, and how good they are.

Source: Guided Distillation (arXiv 2308.02668): rule and values as published. Written
from their description; no code of theirs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def query_pseudo_labels(
    classes: Tensor, masks: Tensor, score_thr: float = 0.7, min_area: float = 5.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The confident queries of one image, as hard labels and masks.

    A query is kept if its likeliest class is an object, with a probability above
    ``score_thr``, and the sum of its mask's probabilities is above ``min_area``.
    Queries that found the same object are all kept, and masks may overlap.

    Args:
        classes: Class logits ``(K, C + 1)``, the last one "no object".
        masks: Mask logits ``(K, h, w)``; -inf where no mask may be.
        score_thr: Probability over all C + 1 classes.
        min_area: In pixels of the logits' map, which has a quarter of the image's
            height and width in Mask2Former.

    Returns:
        Of the n queries kept, in their order: labels int64 ``(n,)``, masks bool
        ``(n, h, w)``, where the probability is above 0.5, and the labels'
        probabilities ``(n,)``.
    """
    scores, labels = classes.softmax(-1).max(-1)
    kept = (labels < classes.shape[-1] - 1) & (scores > score_thr)
    probabilities = masks[kept].sigmoid()
    large = probabilities.sum((1, 2)) > min_area
    return labels[kept][large], probabilities[large] > 0.5, scores[kept][large]


def blank_margin(
    masks: Tensor, image: tuple[int, int], padded: tuple[int, int]
) -> Tensor:
    """Mask logits that are -inf where the image was padded.

    Args:
        masks: Logits ``(K, h, w)`` over the padded image.
        image: Height and width of the image, which lies at the top left.
        padded: Height and width with the margin.

    Returns:
        A new tensor; a cell is outside if its centre is.
    """
    rows, columns = (
        (torch.arange(cells, device=masks.device) + 0.5) * whole / cells < side
        for cells, side, whole in zip(masks.shape[-2:], image, padded, strict=True)
    )
    return masks.masked_fill(~(rows[:, None] & columns), -torch.inf)


def masks_on_grid(masks: Any, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Annotated masks at the centres of a map's cells.

    Args:
        masks: A tensor ``(g, H, W)`` or mmdet's masks, with or without padding.
        padded: Height and width that the image was padded to, right and below.
        size: Height and width of the map over the padded image.

    Returns:
        bool ``(g, *size)``, on the CPU unless ``masks`` is a tensor elsewhere.
    """
    if not isinstance(masks, Tensor):
        masks = torch.from_numpy(masks.to_ndarray())
    y, x = (
        ((torch.arange(n, device=masks.device) + 0.5) * side / n).long()
        for n, side in zip(size, padded, strict=True)
    )
    inside = masks[:, y[y < masks.shape[1]]][:, :, x[x < masks.shape[2]]].bool()
    margin = (0, size[1] - inside.shape[2], 0, size[0] - inside.shape[1])
    return F.pad(inside, margin)


def count_found(
    labels: Tensor,
    masks: Tensor,
    true_labels: Tensor,
    true_masks: Tensor,
    iou_thr: float = 0.5,
) -> int:
    """How many annotated instances the pseudo-labels of one image found.

    One is found by a pseudo-label of its class that overlaps it enough. A second one on
    the same instance finds nothing, and none finds two.

    Args:
        labels: ``(n,)`` int64.
        masks: ``(n, h, w)`` bool.
        true_labels: ``(g,)`` int64.
        true_masks: ``(g, h, w)`` bool, which do not overlap each other.
        iou_thr: Least intersection over union.
    """
    mask_NP, true_GP = masks.flatten(1).float(), true_masks.flatten(1).float()
    both_NG = mask_NP @ true_GP.T
    either_NG = mask_NP.sum(1)[:, None] + true_GP.sum(1) - both_NG
    hit_NG = (both_NG >= iou_thr * either_NG) & (both_NG > 0)
    hit_NG &= labels[:, None] == true_labels
    return int(min(hit_NG.any(0).sum(), hit_NG.any(1).sum()))
