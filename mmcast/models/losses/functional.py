"""Instance-aware pixel contrast as pure functions of tensors.

Source: CAST (arXiv 2505.21904), section "Instance-aware pixel-wise contrastive
loss". A pixel's query distribution and expected class distribution say how likely
another pixel belongs to another instance; negatives are drawn in proportion.
Query indices mean nothing across images, so pairs of pixels from different images
are scored by the class part only.

Letters in names give the axes: B images, K queries, C class columns (the last one
is "no object"), P pixels taken of an image, D embedding dimensions, F score
features, A anchors and M candidates in all, n anchors and m candidates of a block,
R negatives of an anchor.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

SCORES = ('fused', 'mask', 'class', 'uniform')
CANDIDATES = ('all', 'same_image', 'other_images')


def draw_pixels(images: int, pixels: int, most: int | None, device: torch.device):
    """Draw pixels of each image, all alike likely, without replacement.

    Args:
        images: B.
        pixels: Number of pixels of an image.
        most: Bound on the number taken of all images together; None for all pixels.
        device: Where to draw.

    Returns:
        Indices ``(B, P)`` int64, ascending if all pixels are taken.
    """
    share = pixels if most is None else min(pixels, max(1, most // images))
    if share == pixels:
        return torch.arange(pixels, device=device).expand(images, pixels)
    noise_BN = torch.rand(images, pixels, device=device)
    return noise_BN.topk(share, dim=1, sorted=False).indices


def gather_pixels(maps_BDhw: Tensor, index_BP: Tensor) -> Tensor:
    """Pick pixels of a map: ``(B, P, D)``, with a graph."""
    flat_BDN = maps_BDhw.flatten(2)
    if index_BP.shape[1] == flat_BDN.shape[2]:  # all of them, in order
        return flat_BDN.transpose(1, 2)
    index_BDP = index_BP[:, None].expand(-1, flat_BDN.shape[1], -1)
    return flat_BDN.gather(2, index_BDP).transpose(1, 2)


def pixel_predictions(
    mask_logits: Tensor,
    class_logits: Tensor,
    size: tuple[int, int],
    index_BP: Tensor,
) -> tuple[Tensor, Tensor]:
    """Query distribution and expected class distribution of some pixels.

    Args:
        mask_logits: ``(B, K, H, W)`` of any float type, read bilinearly on the
            embeddings' grid.
        class_logits: ``(B, K, C)`` float, "no object" among the C; the result has
            its dtype.
        size: ``(h, w)`` of the embeddings' grid.
        index_BP: Pixels of that grid, row-major.

    Returns:
        ``p_BPK``, the softmax over queries of the mask logits, and ``f_BPC``, the
        class distributions of the queries averaged with these weights. The rows of
        both sum to one.
    """
    height, width = size
    points = None
    if index_BP.shape[1] < height * width:
        x_BP = ((index_BP % width) * 2 + 1) / width - 1
        y_BP = ((index_BP // width) * 2 + 1) / height - 1
        points = torch.stack([x_BP, y_BP], dim=-1)[:, None].to(class_logits.dtype)
    p_BKP = mask_logits.new_empty(
        *mask_logits.shape[:2], index_BP.shape[1], dtype=class_logits.dtype
    )
    # One image at a time: masks are large, and a copy of another dtype is as large.
    for b, logits_KHW in enumerate(mask_logits):
        logits_1KHW = logits_KHW[None].to(class_logits.dtype)
        if points is None:
            read = F.interpolate(logits_1KHW, size=size, mode='bilinear')
        else:
            read = F.grid_sample(
                logits_1KHW,
                points[b : b + 1],
                padding_mode='border',
                align_corners=False,
            )
        p_BKP[b] = read.flatten(2).softmax(1)[0]
    f_BPC = torch.einsum('bkp,bkc->bpc', p_BKP, class_logits.softmax(-1))
    return p_BKP.transpose(1, 2), f_BPC


def score_features(
    p_BPK: Tensor, f_BPC: Tensor, score: str, unit: bool = True
) -> tuple[Tensor, Tensor]:
    """Vectors whose inner products say how alike two pixels are.

    Args:
        p_BPK: Query distributions, see :func:`pixel_predictions`.
        f_BPC: Expected class distributions.
        score: One of :data:`SCORES`.
        unit: Whether vectors are scaled to unit length, so that a pixel is wholly
            like itself; else they stay distributions that sum to one, of which two
            equal ones are alike only as far as they are certain.

    Returns:
        ``same_BPF`` for pairs within an image and ``cross_BPF`` for pairs from
        different images. Features of zero width stand for "all pairs are unlike":
        their inner products are 0, so their debiased scores are 1.
    """
    none_BP0 = f_BPC[..., :0]
    if score == 'uniform':
        return none_BP0, none_BP0
    same_BPF, cross_BPF = f_BPC, f_BPC
    if score == 'mask':
        same_BPF, cross_BPF = p_BPK, none_BP0
    elif score == 'fused':
        same_BPF = torch.cat([p_BPK, f_BPC], dim=-1)
    if not unit:
        total = 2.0 if score == 'fused' else 1.0
        return same_BPF / total, cross_BPF
    return F.normalize(same_BPF, dim=-1), F.normalize(cross_BPF, dim=-1)


@dataclass(frozen=True)
class Pixels:
    """Anchors or candidates, image after image, and what scores a pair of them.

    Attributes:
        z: Unit embeddings ``(A, D)`` float.
        same: Features for pairs within an image ``(A, F)``, see
            :func:`score_features`; only of the first ``sum(counts)`` pixels where
            more follow.
        cross: Features for pairs from different images ``(A, F)``.
        place: Number of the pixel in the batch, image after image, ``(A,)`` int64;
            like ``same``.
        counts: Number of pixels by image. Further pixels may follow, of images
            unlike all of these.
    """

    z: Tensor
    same: Tensor
    cross: Tensor
    place: Tensor
    counts: tuple[int, ...]


def debiased_scores(y_nF: Tensor, y_mF: Tensor, out: Tensor | None = None) -> Tensor:
    """Debiased scores ``max(0, 1 - <y, y'>)`` of all pairs, ``(n, m)``.

    What is positive by rounding alone counts as 0: pixels with equal predictions
    must never be each other's negatives.
    """
    floor = 8 * torch.finfo(y_nF.dtype).eps
    one = y_nF.new_ones(())
    s_nm = torch.addmm(one, y_nF, y_mF.T, alpha=-1, out=out)
    return F.threshold(s_nm, floor, 0.0, inplace=True)


@dataclass(frozen=True)
class Pairing:
    """Which pairs may be negatives, and how strongly: the scores of blocks.

    Attributes:
        anchors: The anchors; their ``z`` is not used here.
        candidates: The candidates.
        which: One of :data:`CANDIDATES`.
        floor: Added to the score of each pair that is allowed.
    """

    anchors: Pixels
    candidates: Pixels
    which: str
    floor: float = 0.0

    @cached_property
    def itself_A(self) -> Tensor:
        """Index of the candidate that is the anchor's own pixel; M without one."""
        place_M, order_M = self.candidates.place.sort()
        at_A = torch.searchsorted(place_M, self.anchors.place)
        at_A.clamp_(max=len(place_M) - 1)
        found_A = place_M[at_A] == self.anchors.place
        return torch.where(found_A, order_M[at_A], len(self.candidates.z))

    def row_blocks(self, size: int) -> list[tuple[int, slice]]:
        """Ranges of at most ``size`` anchors with the image that each lies in."""
        return _blocks(self.anchors.counts, size)

    def column_blocks(self, image: int, size: int) -> list[tuple[bool, slice]]:
        """Ranges of candidates for an image's anchors: of its own, or of others."""
        counts = self.candidates.counts
        before, own = sum(counts[:image]), counts[image]
        runs = (before, own, len(self.candidates.z) - before - own)
        return [
            (run == 1, columns)
            for run, columns in _blocks(runs, size)
            if (self.which != 'same_image' or run == 1)
            and (self.which != 'other_images' or run != 1)
        ]

    def scores(
        self, own: bool, rows: slice, columns: slice, out: Tensor | None = None
    ) -> Tensor:
        """Scores of a block ``(n, m)``; an anchor's own pixel has none."""
        if not own:
            y_nF, y_mF = self.anchors.cross[rows], self.candidates.cross[columns]
            s_nm = debiased_scores(y_nF, y_mF, out)
            return s_nm.add_(self.floor) if self.floor else s_nm
        y_nF, y_mF = self.anchors.same[rows], self.candidates.same[columns]
        s_nm = debiased_scores(y_nF, y_mF, out)
        if self.floor:
            s_nm.add_(self.floor)
        # One entry a row, not a comparison of all pairs.
        itself_n1 = self.itself_A[rows, None] - columns.start
        within_n1 = (itself_n1 >= 0) & (itself_n1 < s_nm.shape[1])
        itself_n1.clamp_(0, s_nm.shape[1] - 1)
        rest_n1 = s_nm.gather(1, itself_n1).masked_fill_(within_n1, 0.0)
        return s_nm.scatter_(1, itself_n1, rest_n1)


def _blocks(counts: tuple[int, ...], size: int) -> list[tuple[int, slice]]:
    """Cut runs of the given lengths into ranges of at most ``size``."""
    found, start = [], 0
    for number, count in enumerate(counts):
        for first in range(start, start + count, size):
            found.append((number, slice(first, min(first + size, start + count))))
        start += count
    return found


def draw_with_replacement(s_nM: Tensor, u_nR: Tensor) -> Tensor:
    """Draw candidates in proportion to their scores, by inversion.

    Not ``torch.multinomial``: the caller's random numbers make the result
    independent of blocks, and rows that sum to zero or hold NaN raise no device-side
    assert.

    Args:
        s_nM: Non-negative scores.
        u_nR: Uniform random numbers in [0, 1).

    Returns:
        Candidate indices ``(n, R)`` int64; M where the row has no positive score.
    """
    cumulative_nM = s_nM.cumsum(1)
    # u <= 1 - eps / 2, so u * total rounds to less than total: some interval holds it.
    target_nR = u_nR * cumulative_nM[:, -1:]
    index_nR = torch.searchsorted(cumulative_nM, target_nR, right=True)
    return _only_positive(s_nM, index_nR)


def draw_without_replacement(s_nM: Tensor, negatives: int) -> Tensor:
    """Draw different candidates in proportion to their scores, one after another.

    Draws with replacement, repeats left out, are draws without: a few more than R are
    drawn so, which takes R random numbers a row instead of M. Rows with too many
    repeats go on with :func:`race`. On a GPU, where random numbers are cheap and
    looking for such rows means to wait, all rows race from the start.

    Args:
        s_nM: Non-negative scores.
        negatives: R; all M candidates if there are fewer.

    Returns:
        Candidate indices ``(n, min(R, M))`` int64; M in place of candidates of score
        zero, where there are fewer than R others.
    """
    n, M = s_nM.shape
    k = min(negatives, M)
    if s_nM.is_cuda:
        return race(s_nM, torch.full((n, k), M, device=s_nM.device))
    draws = k + k // 2
    u_nL = torch.rand(n, draws, dtype=s_nM.dtype, device=s_nM.device)
    drawn_nL, when_nL = draw_with_replacement(s_nM, u_nL).sort(dim=1, stable=True)
    when_nL[:, 1:].masked_fill_(drawn_nL[:, 1:] == drawn_nL[:, :-1], draws)
    when_nR, at_nR = when_nL.topk(k, dim=1, largest=False, sorted=False)
    index_nR = drawn_nL.gather(1, at_nR).masked_fill_(when_nR == draws, M)
    short_n = (index_nR == M).any(1)
    if short_n.any():
        index_nR[short_n] = race(s_nM[short_n], index_nR[short_n])
    return index_nR


def race(s_nM: Tensor, found_nR: Tensor) -> Tensor:
    """Draw without replacement by Gumbel top-k, after those that are found already.

    Args:
        s_nM: Non-negative scores.
        found_nR: Different candidates drawn so far; M for those to be drawn.

    Returns:
        Candidate indices as :func:`draw_without_replacement` tells them.
    """
    # The k smallest of Exp(1) / s are the k largest of log s + Gumbel noise.
    arrival_nM = torch.empty_like(s_nM).exponential_().div_(s_nM)
    # Those found have arrived; one column more for those that are not.
    arrival_nM = F.pad(arrival_nM, (0, 1)).scatter_(1, found_nR, -1.0)[:, :-1]
    k = found_nR.shape[1]
    index_nR = arrival_nM.topk(k, dim=1, largest=False, sorted=False).indices
    return _only_positive(s_nM, index_nR)


def _only_positive(s_nM: Tensor, index_nR: Tensor) -> Tensor:
    """Put M in place of draws that are no candidate; NaN scores keep theirs."""
    M = s_nM.shape[1]
    score_nR = s_nM.gather(1, index_nR.clamp(max=M - 1))
    return index_nR.masked_fill_(score_nR <= 0, M).clamp_(max=M)


def contrast(
    pos_A: Tensor, log_neg_A: Tensor, has_negatives_A: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum over anchors of ``-log(e^pos / (e^pos + neg))``, and their number.

    Anchors without a negative count in neither.

    Args:
        pos_A: Similarity to the positive, divided by the temperature.
        log_neg_A: Logarithm of the sum of the negatives' ``e^similarity``.
        has_negatives_A: bool; False leaves the anchor out.

    Returns:
        Two scalars; the first is an exact zero with a graph if the second is 0.
    """
    gap_A = torch.where(has_negatives_A, log_neg_A - pos_A, 0.0)
    loss_A = torch.where(has_negatives_A, F.softplus(gap_A), 0.0)
    return loss_A.sum(), has_negatives_A.sum()
