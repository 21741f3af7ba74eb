"""Instance-aware pixel contrast as pure functions of tensors.

Source: CAST (arXiv 2505.21904), section "Instance-aware pixel-wise contrastive
loss". A pixel's query distribution and expected class distribution say how likely
another pixel belongs to another instance; negatives are drawn in proportion.
Query indices mean nothing across images, so pairs of pixels from different images
are scored by the class part only.

Letters in names give the axes: B images, K queries, C class columns (the last one
is "no object"), N = h * w pixels of an image, D embedding dimensions, F score
features, n anchors of a chunk, M candidates, R negatives of an anchor. Candidates
are the pixels of the whole batch in row-major order (image, then pixel), or those
of the anchor's image if only these are allowed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SCORES = ('fused', 'mask', 'class', 'uniform')
CANDIDATES = ('all', 'same_image', 'other_images')


def aggregate_predictions(
    mask_logits: Tensor, class_logits: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Query distribution and expected class distribution of every pixel.

    Args:
        mask_logits: ``(B, K, H, W)`` float, resized bilinearly to ``size``.
        class_logits: ``(B, K, C)`` float, "no object" among the C.
        size: ``(h, w)`` of the embeddings' grid, N = h * w.

    Returns:
        ``p_BNK``, the softmax over queries of the mask logits, and ``f_BNC``, the
        class distributions of the queries averaged with these weights. The rows of
        both sum to one.
    """
    resized_BKhw = F.interpolate(
        mask_logits, size=size, mode='bilinear', align_corners=False
    )
    p_BKN = resized_BKhw.flatten(2).softmax(1)
    f_BNC = torch.einsum('bkn,bkc->bnc', p_BKN, class_logits.softmax(-1))
    return p_BKN.transpose(1, 2), f_BNC


def score_features(p_BNK: Tensor, f_BNC: Tensor, score: str) -> tuple[Tensor, Tensor]:
    """Unit vectors whose inner products say how alike two pixels are.

    Args:
        p_BNK: Query distributions, see :func:`aggregate_predictions`.
        f_BNC: Expected class distributions.
        score: One of :data:`SCORES`.

    Returns:
        ``same_BNF`` for pairs within an image and ``cross_BNF`` for pairs from
        different images. Features of zero width stand for "all pairs are unlike":
        their inner products are 0, so their debiased scores are 1.
    """
    none_BN0 = f_BNC[..., :0]
    if score == 'uniform':
        return none_BN0, none_BN0
    if score == 'mask':
        return F.normalize(p_BNK, dim=-1), none_BN0
    class_BNC = F.normalize(f_BNC, dim=-1)
    if score == 'class':
        return class_BNC, class_BNC
    return F.normalize(torch.cat([p_BNK, f_BNC], dim=-1), dim=-1), class_BNC


def debiased_scores(y_nF: Tensor, y_MF: Tensor) -> Tensor:
    """Debiased scores ``max(0, 1 - <y, y'>)`` of all pairs, ``(n, M)``.

    What is positive by rounding alone counts as 0: pixels with equal predictions
    must never be each other's negatives.
    """
    floor = 8 * torch.finfo(y_nF.dtype).eps
    one = y_nF.new_ones(())
    s_nM = torch.addmm(one, y_nF, y_MF.T, alpha=-1)
    return F.threshold(s_nM, floor, 0.0, inplace=True)


def anchor_scores(
    same_BNF: Tensor, cross_BNF: Tensor, image: int, rows: slice, candidates: str
) -> Tensor:
    """Scores of some anchors of one image against every candidate.

    Args:
        same_BNF: Features for pairs within an image, see :func:`score_features`.
        cross_BNF: Features for pairs from different images.
        image: Index of the anchors' image.
        rows: The anchors: a range of that image's pixels.
        candidates: One of :data:`CANDIDATES`.

    Returns:
        ``(n, N)`` for ``'same_image'``, else ``(n, B * N)``. Candidates that are
        excluded, the anchor's own location among them, score 0.
    """
    N = same_BNF.shape[1]
    if candidates == 'same_image':
        s_nM = own_nN = debiased_scores(same_BNF[image, rows], same_BNF[image])
    else:
        s_nM = debiased_scores(cross_BNF[image, rows], cross_BNF.flatten(0, 1))
        own_nN = s_nM[:, image * N : (image + 1) * N]
        if candidates == 'other_images':
            own_nN.zero_()
        else:
            own_nN.copy_(debiased_scores(same_BNF[image, rows], same_BNF[image]))
    own_nN[:, rows].fill_diagonal_(0)
    return s_nM


def sample_negatives(s_nM: Tensor, u_nR: Tensor) -> tuple[Tensor, Tensor]:
    """Draw candidates, with replacement, in proportion to their scores.

    By inversion of the cumulative scores, not ``torch.multinomial``: it costs the
    same on one core and less on more, the caller's random numbers make it
    independent of chunks, and rows that sum to zero or hold NaN raise no
    device-side assert.

    Args:
        s_nM: Non-negative scores.
        u_nR: Uniform random numbers in [0, 1).

    Returns:
        Candidate indices ``(n, R)`` int64 and, ``(n,)`` bool, which anchors have
        any candidate of positive (or NaN) score. The indices of the others, and
        those of rows with NaN, are in range and otherwise meaningless.
    """
    cumulative_nM = s_nM.cumsum(1)
    total_n1 = cumulative_nM[:, -1:]
    # u <= 1 - eps / 2, so u * total rounds to less than total: some interval holds it.
    target_nR = u_nR * total_n1
    index_nR = torch.searchsorted(cumulative_nM, target_nR, right=True)
    index_nR = index_nR.clamp_(max=s_nM.shape[1] - 1)  # NaN and empty rows
    # Not "> 0": an anchor of NaN scores must reach the loss, not leave it unseen.
    return index_nR, ~(total_n1[:, 0] <= 0)


def info_nce(pos_n: Tensor, neg_nR: Tensor) -> Tensor:
    """``-log(e^pos / (e^pos + sum_r e^neg_r))`` of each anchor, ``(n,)``."""
    return torch.cat([pos_n[:, None], neg_nR], dim=1).logsumexp(1) - pos_n


def contrast_anchors(
    anchor_nD: Tensor,
    positive_nD: Tensor,
    candidate_MD: Tensor,
    index_nR: Tensor,
    temperature: float,
) -> Tensor:
    """Loss of each anchor, ``(n,)``, for given negatives; the differentiable part.

    Negatives are columns gathered from the chunk's similarities: cheaper than
    gathering ``(n, R, D)`` embeddings. All embeddings are unit vectors.
    """
    scaled_nD = anchor_nD / temperature
    pos_n = (scaled_nD * positive_nD).sum(1)
    neg_nR = (scaled_nD @ candidate_MD.T).gather(1, index_nR)
    return info_nce(pos_n, neg_nR)


def pixel_contrast(
    weak_BND: Tensor,
    strong_BND: Tensor,
    same_BNF: Tensor,
    cross_BNF: Tensor,
    *,
    candidates: str,
    num_negatives: int,
    temperature: float,
    chunk_size: int,
) -> Tensor:
    """Mean loss over the anchors that have a negative; scalar.

    Anchors are taken ``chunk_size`` at a time, and a chunk's similarities are
    computed again in the backward pass, so memory grows with chunk_size * M and
    never with N * M. Negatives are drawn once, with torch's global generator.

    Args:
        weak_BND: Unit embeddings of the weak view: anchors and negatives.
        strong_BND: Unit embeddings of the strong view: positives.
        same_BNF: Features for pairs within an image, see :func:`score_features`.
        cross_BNF: Features for pairs from different images.
        candidates: One of :data:`CANDIDATES`.
        num_negatives: R.
        temperature: Divides the cosines.
        chunk_size: n, anchors taken at a time.

    Returns:
        The mean, or an exact zero with a graph if no anchor has a negative.
    """
    B, N, _ = weak_BND.shape
    losses, has_negatives = [], []
    for image in range(B):
        # Before chunking, so that chunk_size does not change what is drawn.
        u_NR = torch.rand(
            N, num_negatives, dtype=same_BNF.dtype, device=weak_BND.device
        )
        if candidates == 'same_image':
            candidate_MD = weak_BND[image]
        else:
            candidate_MD = weak_BND.flatten(0, 1)
        for start in range(0, N, chunk_size):
            rows = slice(start, min(start + chunk_size, N))
            with torch.no_grad():
                s_nM = anchor_scores(same_BNF, cross_BNF, image, rows, candidates)
                index_nR, has_negatives_n = sample_negatives(s_nM, u_NR[rows])
                del s_nM
            loss_n = checkpoint(
                contrast_anchors,
                weak_BND[image, rows],
                strong_BND[image, rows],
                candidate_MD,
                index_nR,
                temperature,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            losses.append(loss_n)
            has_negatives.append(has_negatives_n)
    has_negatives_A = torch.cat(has_negatives)
    loss_A = torch.where(has_negatives_A, torch.cat(losses), 0.0)
    return loss_A.sum() / has_negatives_A.sum().clamp(min=1)
