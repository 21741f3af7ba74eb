"""Suppress masks of objects that a better mask has. Needs torch alone."""

from torch import Tensor


def mask_nms(masks: Tensor, scores: Tensor, iou_thr: float) -> Tensor:
    """Suppress masks that a better one covers, whatever their classes.

    Args:
        masks: ``(n, h, w)`` bool.
        scores: ``(n,)`` float.
        iou_thr: A mask goes if its intersection over union with a kept mask of a higher
            score is above this.

    Returns:
        Indices of the masks that stay, int64, in descending score.
    """
    order = scores.argsort(descending=True, stable=True)
    flat_NP = masks[order].flatten(1).float()
    both_NN = flat_NP @ flat_NP.T
    area_N = flat_NP.sum(1)
    either_NN = area_N[:, None] + area_N - both_NN
    too_near = (both_NN > iou_thr * either_NN).cpu()
    kept: list[int] = []
    for i in range(len(order)):
        if not too_near[i, kept].any():
            kept.append(i)
    return order[kept]
