"""Pseudo-labels of an online teacher: which are kept, and how good they are.

The rule for a masked decoder's logits is Guided Distillation's (arXiv 2308.02668), with
its values, written from their description.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from torch import Tensor

from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.losses import Grid


def query_pseudo_labels(
    classes: Tensor,
    masks: FactoredMasks,
    score_thr: float = 0.7,
    min_area: float = 5.0,
    part: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Select the confident queries of one image, as hard labels and masks.

    A query is kept if its likeliest class is an object, with a probability above
    ``score_thr``, and the sum of its mask's probabilities is above ``min_area``.
    Several queries may find the same object, and masks may overlap.

    Args:
        classes: Class logits ``(K, C + 1)``, the last one "no object".
        masks: Masks ``(1, K, h, w)``.
        score_thr: Probability over all C + 1 classes.
        min_area: In pixels of the logits' map, which has a quarter of the image's
            height and width in Mask2Former.
        part: Rows and columns of the logits' map, from the top left, that masks may
            cover; None for all. The rest is padding.

    Returns:
        For the n queries kept, in their order: labels int64 ``(n,)``, masks bool
        ``(n, h, w)``, True where the probability is above 0.5, and the labels'
        probabilities ``(n,)``.
    """
    scores, labels = classes.softmax(-1).max(-1)
    kept = (labels < classes.shape[-1] - 1) & (scores > score_thr)
    probabilities = masks.of([kept.nonzero()[:, 0]]).sigmoid()
    height, width = probabilities.shape[1:]
    rows, columns = part or (height, width)
    probabilities = probabilities[:, :rows, :columns]
    large = probabilities.sum((1, 2)) > min_area
    inside = F.pad(probabilities[large] > 0.5, (0, width - columns, 0, height - rows))
    return labels[kept][large], inside, scores[kept][large]


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the boxes around masks.

    Args:
        masks: ``(n, h, w)`` bool, each with a pixel.

    Returns:
        ``(n, 4)`` float32, x1, y1, x2, y2; the last two are exclusive, as COCO's.
    """
    sides = []
    for pixels in (masks.any(1), masks.any(2)):  # columns, rows
        place = torch.arange(pixels.shape[1], device=masks.device)
        last = torch.where(pixels, place, -1).amax(1) + 1
        first = torch.where(pixels, place, pixels.shape[1]).amin(1)
        sides.append((first, last))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], dim=1).float()


def masks_on_grid(masks: Any, padded: tuple[int, int], grid: Grid) -> Tensor:
    """Read annotated masks at the centres of a map's cells.

    Args:
        masks: A tensor ``(g, H, W)`` or mmdet's masks, with or without padding.
        padded: Height and width that the image was padded to, right and below.
        grid: The map's cells over the padded image.

    Returns:
        bool ``(g, h, w)``, on the CPU unless ``masks`` is a tensor elsewhere.
    """
    if not isinstance(masks, Tensor):
        masks = torch.from_numpy(masks.to_ndarray())
    y, x = (
        (centres * side + 1e-6).long().to(masks.device)  # a centre on a pixel's edge
        for centres, side in zip(grid[:2], padded, strict=True)
    )
    inside = masks[:, y[y < masks.shape[1]]][:, :, x[x < masks.shape[2]]].bool()
    return F.pad(inside, (0, len(x) - inside.shape[2], 0, len(y) - inside.shape[1]))


def count_found(
    labels: Tensor,
    masks: Tensor,
    true_labels: Tensor,
    true_masks: Tensor,
    iou_thr: float = 0.5,
) -> int:
    """Count the annotated instances that the pseudo-labels of one image found.

    A pseudo-label finds an instance of its class that it overlaps enough. It finds one
    at most, and an instance counts once.

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


def teacher_stats(
    inputs: Tensor, labeled: SampleList, truth: SampleList
) -> dict[str, Tensor]:
    """Measure an online teacher's labels, so that the log shows when it collapses.

    Args:
        inputs: The batch (B, 3, H, W).
        labeled: Its samples with the teacher's labels; ``proposed`` is how many
            instances it chose them from.
        truth: The samples as they were loaded.

    Returns:
        ``teacher_labels_per_image`` and ``teacher_share_kept`` of what it proposed. If
        samples have annotated instances, also ``teacher_recall``, and
        ``teacher_precision`` if there are pseudo-labels, at an intersection over
        union of 0.5 with an instance of the same class.
    """
    made = sum(len(sample.gt_instances) for sample in labeled)
    proposed = sum(sample.proposed for sample in labeled)
    stats = {
        'labels_per_image': made / len(labeled),
        'share_kept': made / max(proposed, 1),
    }
    padded = (inputs.shape[-2], inputs.shape[-1])
    grid = Grid.without_padding(1, (-(-padded[0] // 4), -(-padded[1] // 4)))
    found = guesses = instances = 0
    for sample, true in zip(labeled, truth, strict=True):
        annotated = true.get('gt_instances', ())
        if not len(annotated):
            continue
        guess = sample.gt_instances
        # The teacher's masks cover the padded image, maybe at their logits' size.
        size = (
            (guess.masks.shape[1], guess.masks.shape[2])
            if isinstance(guess.masks, Tensor)
            else padded
        )
        guessed, masks = (
            masks_on_grid(each.masks, whole, grid).to(inputs.device)
            for each, whole in ((guess, size), (annotated, padded))
        )
        found += count_found(guess.labels, guessed, annotated.labels, masks)
        guesses += len(guess)
        instances += len(annotated)
    if instances:
        stats['recall'] = found / instances
    if instances and guesses:
        stats['precision'] = found / guesses
    return {f'teacher_{k}': inputs.new_tensor(v) for k, v in stats.items()}
