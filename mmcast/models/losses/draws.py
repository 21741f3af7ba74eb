"""Random draws of pixels: anchors, candidates, and negatives by their scores.

All random numbers come from torch's global generator of the device. Letters as in
:mod:`mmcast.models.losses.scores`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def draw_pixels(
    parts: Sequence[tuple[int, int]], width: int, most: int | None, device: torch.device
) -> list[Tensor]:
    """Draw pixels of each image uniformly, without replacement.

    Args:
        parts: For each image, the rows and columns of the map that show it; the rest,
            at the bottom and right, is padding and never drawn.
        width: Columns of the map.
        most: Bound on the number of all images together, which share it in proportion
            to their pixels; None for all pixels.
        device: Where to draw.

    Returns:
        For each image, pixel indices ``(P,)`` int64, row-major over the whole map;
        ascending if all are taken.
    """
    total = sum(rows * columns for rows, columns in parts)
    drawn = []
    for rows, columns in parts:
        count = rows * columns
        if most is None or total <= most:
            local_P = torch.arange(count, device=device)
        else:
            share = min(count, max(1, count * most // total))
            local_P = torch.randperm(count, device=device)[:share]
        drawn.append(local_P // columns * width + local_P % columns)
    return drawn


def draw_with_replacement(s_nM: Tensor, u_nR: Tensor) -> Tensor:
    """Draw candidates in proportion to their scores, by inversion.

    ``torch.multinomial`` does not fit here: it fails on rows that sum to zero or hold
    NaN, and its draws depend on the blocks.

    Args:
        s_nM: Non-negative scores.
        u_nR: Uniform random numbers in [0, 1).

    Returns:
        Candidate indices ``(n, R)`` int64; M if the row has no positive score.
    """
    cumulative_nM = s_nM.cumsum(1)
    # u <= 1 - eps / 2, so u * total rounds to less than total: some interval holds it.
    target_nR = u_nR * cumulative_nM[:, -1:]
    index_nR = torch.searchsorted(cumulative_nM, target_nR, right=True)
    return _only_positive(s_nM, index_nR)


def draw_without_replacement(s_nM: Tensor, negatives: int) -> Tensor:
    """Draw different candidates in proportion to their scores, one after another.

    On a CPU it draws a few more than R with replacement and drops the repeats, which
    takes R random numbers a row instead of M; rows with too many repeats continue with
    :func:`gumbel_top_k`. On a GPU random numbers are cheap and finding such rows means
    waiting, so all rows use :func:`gumbel_top_k` from the start.

    Args:
        s_nM: Non-negative scores.
        negatives: R; all M candidates if there are fewer.

    Returns:
        Candidate indices ``(n, min(R, M))`` int64; M fills up rows with fewer than R
        candidates of positive score.
    """
    n, M = s_nM.shape
    k = min(negatives, M)
    if s_nM.is_cuda:
        return gumbel_top_k(s_nM, torch.full((n, k), M, device=s_nM.device))
    draws = k + k // 2
    u_nL = torch.rand(n, draws, dtype=s_nM.dtype, device=s_nM.device)
    drawn_nL, when_nL = draw_with_replacement(s_nM, u_nL).sort(dim=1, stable=True)
    when_nL[:, 1:].masked_fill_(drawn_nL[:, 1:] == drawn_nL[:, :-1], draws)
    when_nR, at_nR = when_nL.topk(k, dim=1, largest=False, sorted=False)
    index_nR = drawn_nL.gather(1, at_nR).masked_fill_(when_nR == draws, M)
    short_n = (index_nR == M).any(1)
    if short_n.any():
        index_nR[short_n] = gumbel_top_k(s_nM[short_n], index_nR[short_n])
    return index_nR


def gumbel_top_k(s_nM: Tensor, found_nR: Tensor) -> Tensor:
    """Complete a draw without replacement by Gumbel top-k.

    Args:
        s_nM: Non-negative scores.
        found_nR: Different candidates drawn so far; M for each one still to draw.

    Returns:
        Candidate indices as :func:`draw_without_replacement` returns them.
    """
    # The k smallest of Exp(1) / s are the k largest of log s + Gumbel noise.
    arrival_nM = torch.empty_like(s_nM).exponential_().div_(s_nM)
    # Those found have arrived; one column more for those that are not.
    arrival_nM = F.pad(arrival_nM, (0, 1)).scatter_(1, found_nR, -1.0)[:, :-1]
    k = found_nR.shape[1]
    index_nR = arrival_nM.topk(k, dim=1, largest=False, sorted=False).indices
    return _only_positive(s_nM, index_nR)


def _only_positive(s_nM: Tensor, index_nR: Tensor) -> Tensor:
    """Put M in place of draws without score; NaN scores keep theirs."""
    M = s_nM.shape[1]
    score_nR = s_nM.gather(1, index_nR.clamp(max=M - 1))
    return index_nR.masked_fill_(score_nR <= 0, M).clamp_(max=M)
