"""The negatives' part of the contrast's denominator, block by block.

For an anchor with similarities ``s_q`` to its candidates, debiased scores ``w_q`` and
temperature T the two autograd functions here give the logarithm of::

    sampled    sum_r e^(s_{q_r} / T)                 R draws q_r in proportion to w
    expected   R * sum_q w_q e^(s_q / T) / sum_q w_q    its expectation over the draws

No tensor of all anchors by all candidates ever exists: forward and backward walk over
blocks of pairs, and backward computes them again. Embeddings have unit length, so no
similarity over T exceeds 1 / T. Subtracting this bound from every exponent keeps all
sums finite in float32 for any T of at least ``temperature.LOWEST``. Letters as in
:mod:`mmcast.models.losses.scores`.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .draws import draw_with_replacement, draw_without_replacement
from .pairs import Pairing


def block_shape(device: torch.device) -> tuple[int, int]:
    """Return a block's anchors and candidates, to fit a core's cache or fill a GPU."""
    return (256, 1024) if device.type == 'cpu' else (4096, 8192)


class ExpectedNegatives(torch.autograd.Function):
    """``log(sum_q w_q e^l_q / sum_q w_q)`` of each anchor, and whether any w > 0.

    ``l`` is the similarity over T; with a margin it is ``max(l - margin, 0)``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchor_AD: Tensor,
        candidate_MD: Tensor,
        pairing: Pairing,
        temperature: float,
        margin: float | None,
    ) -> tuple[Tensor, Tensor]:
        """Return ``(A,)`` float and ``(A,)`` bool."""
        scaled_AD = anchor_AD / temperature
        weighted_A = anchor_AD.new_zeros(len(anchor_AD))
        weight_A = torch.zeros_like(weighted_A)
        shift = _bound(temperature, margin)
        blocks = _walk(scaled_AD, candidate_MD, pairing, margin, shift)
        for rows, _, s_nm, e_nm, _ in blocks:
            weight_A[rows] += s_nm.sum(1)
            weighted_A[rows] += e_nm.mul_(s_nm).sum(1)
        ctx.save_for_backward(anchor_AD, candidate_MD, weighted_A)
        ctx.pairing, ctx.temperature, ctx.margin = pairing, temperature, margin
        # Not "> 0": NaN scores must make the loss NaN, not drop their anchor silently.
        has_negatives_A = ~(weight_A <= 0)
        log_mean_A = (weighted_A / weight_A).log_().add_(shift)
        ctx.mark_non_differentiable(has_negatives_A)
        return log_mean_A, has_negatives_A

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_A: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients of anchors and candidates; the scores are constants."""
        anchor_AD, candidate_MD, weighted_A = ctx.saved_tensors
        temperature, margin = ctx.temperature, ctx.margin
        scaled_AD = anchor_AD / temperature
        factor_A = torch.where(grad_A == 0, 0.0, grad_A / weighted_A)
        to_anchor_AD = torch.zeros_like(anchor_AD)
        to_candidate_MD = torch.zeros_like(candidate_MD)
        shift = _bound(temperature, margin)
        for rows, columns, s_nm, e_nm, active_nm in _walk(
            scaled_AD, candidate_MD, ctx.pairing, margin, shift
        ):
            e_nm.mul_(s_nm).mul_(factor_A[rows, None])
            if active_nm is not None:
                e_nm.mul_(active_nm)
            to_anchor_AD[rows].addmm_(e_nm, candidate_MD[columns])
            to_candidate_MD[columns].addmm_(e_nm.T, scaled_AD[rows])
        return to_anchor_AD.div_(temperature), to_candidate_MD, None, None, None


def _walk(
    scaled_AD: Tensor,
    candidate_MD: Tensor,
    pairing: Pairing,
    margin: float | None,
    shift: float,
) -> Any:
    """Yield blocks: rows, columns, scores, ``e^(l - shift)``, and where l has slope.

    The tensors are buffers; the next block overwrites them.
    """
    height, width = block_shape(scaled_AD.device)
    size = min(height, max(pairing.anchors.counts)) * min(width, len(candidate_MD))
    buffers = scaled_AD.new_empty(2, size)
    offset = scaled_AD.new_full((), -shift if margin is None else -margin)
    for image, rows in pairing.row_blocks(height):
        for own, columns in pairing.column_blocks(image, width):
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            e_nm, s_nm = (buffer[: math.prod(shape)].view(shape) for buffer in buffers)
            pairing.scores(own, rows, columns, out=s_nm)
            torch.addmm(offset, scaled_AD[rows], candidate_MD[columns].T, out=e_nm)
            active_nm = None
            if margin is not None:
                active_nm = e_nm > 0
                e_nm.clamp_(min=0).sub_(shift)
            yield rows, columns, s_nm, e_nm.exp_(), active_nm


class SampledNegatives(torch.autograd.Function):
    """``log sum_r e^l_r`` over R drawn candidates of each anchor, and whether any."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor_AD: Tensor,
        candidate_MD: Tensor,
        pairing: Pairing,
        temperature: float,
        margin: float | None,
        negatives: int,
        replacement: bool,
        floor: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(A,)`` float, ``(A,)`` bool, and the drawn indices ``(A, R)`` int32.

        An index of M means that the draw found no candidate.
        """
        scaled_AD = anchor_AD / temperature
        shift = _bound(temperature, margin)
        A, M = len(anchor_AD), len(candidate_MD)
        has_negatives_A = torch.zeros(A, dtype=torch.bool, device=anchor_AD.device)
        index_AR = torch.full(
            (A, negatives), M, dtype=torch.int32, device=anchor_AD.device
        )
        e_AR = anchor_AD.new_zeros(A, negatives)
        for rows, columns, s_nm, index_nR in draw_negatives(
            pairing, negatives, replacement, floor
        ):
            has_negatives_A[rows] = ~(s_nm.sum(1) <= 0)
            l_nm = scaled_AD[rows] @ candidate_MD[columns].T
            found_nR = index_nR < l_nm.shape[1]
            l_nR = l_nm.gather(1, index_nR.clamp(max=l_nm.shape[1] - 1))
            if margin is not None:
                l_nR.sub_(margin).clamp_(min=0)
            k = index_nR.shape[1]
            e_AR[rows, :k] = l_nR.sub_(shift).exp_().mul_(found_nR)
            index_AR[rows, :k] = torch.where(
                found_nR, index_nR + columns.start, M
            ).int()
        sum_A = e_AR.sum(1)
        ctx.save_for_backward(anchor_AD, candidate_MD, index_AR, e_AR, sum_A)
        ctx.pairing, ctx.temperature, ctx.margin = pairing, temperature, margin
        ctx.mark_non_differentiable(has_negatives_A, index_AR)
        return sum_A.log().add_(shift), has_negatives_A, index_AR

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_A: Tensor, _: Tensor, __: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Return gradients of anchors and candidates; the draws are constants."""
        anchor_AD, candidate_MD, index_AR, e_AR, sum_A = ctx.saved_tensors
        scaled_AD = anchor_AD / ctx.temperature
        factor_A = torch.where(grad_A == 0, 0.0, grad_A / sum_A)
        to_anchor_AD = torch.zeros_like(anchor_AD)
        to_candidate_MD = torch.zeros_like(candidate_MD)
        lowest = (1 + 1e-5) * math.exp(-_bound(ctx.temperature, ctx.margin))
        for _image, rows, span in _wide_blocks(ctx.pairing):
            weight_nR = e_AR[rows] * factor_A[rows, None]
            if ctx.margin is not None:
                weight_nR.mul_(e_AR[rows] > lowest)  # no slope below the margin
            m = span.stop - span.start
            index_nR = (index_AR[rows].long() - span.start).clamp_(max=m)
            # One more column, for draws that found nothing.
            p_nm = weight_nR.new_zeros(len(weight_nR), m + 1)
            p_nm = p_nm.scatter_add_(1, index_nR, weight_nR)[:, :m]
            to_anchor_AD[rows].addmm_(p_nm, candidate_MD[span])
            to_candidate_MD[span].addmm_(p_nm.T, scaled_AD[rows])
        return (
            to_anchor_AD.div_(ctx.temperature),
            to_candidate_MD,
            *(None,) * 6,
        )


def draw_negatives(
    pairing: Pairing, negatives: int, replacement: bool, floor: float = 0.0
) -> Any:
    """Draw each anchor's negatives, some anchors at a time.

    Args:
        pairing: The pairs.
        negatives: R.
        replacement: Whether a candidate may be drawn again.
        floor: Each candidate's chance is at least about this share of the anchor's
            total, see :class:`~mmcast.models.losses.PixelContrastLoss`.

    Yields:
        The anchors; the range that contains their candidates; their scores
        ``(n, m)``, m candidates of that range; and the draws ``(n, R)`` int64 counted
        from the range's start, m for a draw that found no candidate.
    """
    device = pairing.anchors.same.device
    A, M = len(pairing.anchors.same), len(pairing.candidates.z)
    if replacement:
        # Before the blocks, so that their size does not change what is drawn.
        u_AR = torch.rand(A, negatives, dtype=pairing.anchors.same.dtype, device=device)
    for image, rows, span in _wide_blocks(pairing):
        shape = (rows.stop - rows.start, span.stop - span.start)
        s_nm = pairing.anchors.same.new_zeros(shape)
        blocks = pairing.column_blocks(image, M)
        parts = [s_nm[:, c.start - span.start : c.stop - span.start] for _, c in blocks]
        for (own, columns), s_nc in zip(blocks, parts, strict=True):
            pairing.scores(own, rows, columns, out=s_nc)
        if floor:
            # (s + floor) / total + floor, in the units of the scores.
            total_n1 = sum((s_nc + floor).sum(1, keepdim=True) for s_nc in parts)
            for (own, columns), s_nc in zip(blocks, parts, strict=True):
                s_nc += floor * (1 + total_n1)
                if own:
                    pairing.clear_itself(s_nc, rows, columns)
        if replacement:
            index_nR = draw_with_replacement(s_nm, u_AR[rows])
        else:
            index_nR = draw_without_replacement(s_nm, negatives)
        yield rows, span, s_nm, index_nR


def _wide_blocks(pairing: Pairing) -> list[tuple[int, slice, slice]]:
    """List an image, some of its anchors, and the range of all their candidates.

    Anchors without a candidate are not in the list.
    """
    spans = {}
    for image in range(len(pairing.anchors.counts)):
        runs = pairing.column_blocks(image, len(pairing.candidates.z))
        if runs:
            spans[image] = slice(runs[0][1].start, runs[-1][1].stop)
    widest = max((span.stop - span.start for span in spans.values()), default=1)
    height, width = block_shape(pairing.anchors.same.device)
    return [
        (image, rows, spans[image])
        for image, rows in pairing.row_blocks(max(1, 4 * height * width // widest))
        if image in spans
    ]


def _bound(temperature: float, margin: float | None) -> float:
    """Return an upper bound of the exponents."""
    return max(1 / temperature - (margin or 0.0), 0.0)


def info_nce(
    pos_A: Tensor, log_neg_A: Tensor, has_negatives_A: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum ``-log(e^pos / (e^pos + neg))`` over anchors, and count the anchors.

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
