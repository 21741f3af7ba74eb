"""How well the contrast tells instances apart: margin, false negatives, cosines.

Source: CAST (arXiv 2505.21904), its empirical monitors. Their code is not public; this
follows the paper's figure, in cosines.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcast.models.factored_masks import FactoredMasks, as_factored

from .draws import draw_pixels
from .grid import Grid
from .negatives import draw_negatives
from .pairs import Pairing, Pixels
from .pixel_contrast_loss import PixelContrastLoss
from .scores import pixel_predictions

BINS = 10  # of the drawn negatives' cosines, between -1 and 1


def contrast_figures(
    loss: PixelContrastLoss,
    weak: Tensor,
    strong: Tensor,
    masks: FactoredMasks | Tensor,
    classes: Tensor,
    grid: Grid,
    instances: Sequence[Tensor | None],
    anchors: int,
) -> dict[str, float]:
    """Draw negatives for some anchors of a batch, and compute figures of them.

    Args:
        loss: The loss of this batch; its settings are used.
        weak: Its embeddings, (B, D, h, w) float.
        strong: The same of the strong view.
        masks: Its masks, or their logits (B, K, H, W).
        classes: Its class logits (B, K, C + 1).
        grid: Positions of the embeddings' cells.
        instances: For each image the ground-truth instance of each cell, (h * w,)
            int64, -1 on none; or None for an image without ground truth.
        anchors: How many anchors to draw at most.

    Returns:
        ``margin``, ``fnr_gt``, ``fnr_query`` and ``negatives/bin_*``, as
        :class:`~mmcast.engine.hooks.ContrastMonitorHook` describes them; without those
        that no anchor counts for.
    """
    weak, strong, classes = weak.float(), strong.float(), classes.float()
    masks = as_factored(masks)
    drawn, candidates, index_AR = draw(loss, weak, masks, classes, grid, anchors)
    instance_N = torch.cat(
        [
            own_queries(masks[b : b + 1], classes[b], grid) if given is None else given
            for b, given in enumerate(instances)
        ]
    )
    found_AR = index_AR < len(candidates.z)
    index_AR = index_AR.clamp(max=len(candidates.z) - 1)
    image_A, image_M = _images(drawn), _images(candidates)
    strong_ND = F.normalize(strong.flatten(2).transpose(1, 2).flatten(0, 1), dim=-1)
    pos_A = (drawn.z * strong_ND[drawn.place]).sum(1)
    cosine_AR = (drawn.z @ candidates.z.T).gather(1, index_AR)
    own_A, own_M = instance_N[drawn.place], instance_N[candidates.place]
    same_AR = (own_A[:, None] == own_M[index_AR]) & (
        image_A[:, None] == image_M[index_AR]
    )
    figures = {}
    if found_AR.any():
        has_A = found_AR.any(1)
        cosines = cosine_AR[found_AR]
        figures['margin'] = float(pos_A[has_A].mean() - cosines.mean())
        counts = cosines.clamp(-1, 1).histc(BINS, -1, 1)
        for i, share in enumerate((counts / counts.sum()).tolist()):
            figures[f'negatives/bin_{i:02d}'] = share
    labeled_B = torch.tensor(
        [each is not None for each in instances], device=weak.device
    )
    for name, of_B in (('fnr_gt', labeled_B), ('fnr_query', ~labeled_B)):
        counted_AR = found_AR & (of_B[image_A] & (own_A >= 0))[:, None]
        if counted_AR.any():
            figures[name] = float(same_AR[counted_AR].float().mean())
    return figures


def draw(
    loss: PixelContrastLoss,
    weak: Tensor,
    masks: FactoredMasks,
    classes: Tensor,
    grid: Grid,
    anchors: int,
) -> tuple[Pixels, Pixels, Tensor]:
    """Draw negatives of some anchors of a batch.

    Args:
        loss: The loss; its settings are used.
        weak: (B, D, h, w) float.
        masks: Masks of K queries.
        classes: (B, K, C + 1) float.
        grid: Positions of the embeddings' cells.
        anchors: How many to draw at most.

    Returns:
        Anchors, candidates (the batch's own), and the index of each anchor's R drawn
        candidates (A, R) int64; M for a draw that found none.
    """
    drawn, among = (
        loss.take(
            weak,
            masks,
            classes,
            grid,
            draw_pixels(grid.parts, weak.shape[3], most, weak.device),
        )
        for most in (anchors, loss.max_candidates)
    )
    total = len(among.z)
    shape = (len(drawn.z), loss.num_negatives)
    index_AR = torch.full(shape, total, device=weak.device)
    for rows, span, s_nm, index_nR in draw_negatives(
        Pairing(drawn, among, loss.candidates),
        loss.num_negatives,
        loss.replacement,
        loss.score_floor,
    ):
        index_AR[rows, : index_nR.shape[1]] = torch.where(
            index_nR < s_nm.shape[1], index_nR + span.start, total
        )
    return drawn, among, index_AR


def _images(pixels: Pixels) -> Tensor:
    """Return the image of each pixel, int64."""
    counts = torch.tensor(pixels.counts, device=pixels.z.device)
    return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)


def own_queries(masks: FactoredMasks, classes: Tensor, grid: Grid) -> Tensor:
    """Return the query that each cell of one image belongs to most, ``(h * w,)``."""
    every = torch.arange(len(grid.y) * len(grid.x), device=classes.device)
    read = masks.at_points(grid.points(every)[None], 'border')
    p_PK, _ = pixel_predictions(read[0], classes)
    return p_PK.argmax(1)
