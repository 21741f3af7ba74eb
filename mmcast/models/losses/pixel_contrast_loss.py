"""Instance-aware pixel contrastive loss of CAST as a registered module."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from .functional import (
    CANDIDATES,
    SCORES,
    Pairing,
    Pixels,
    contrast,
    draw_pixels,
    gather_pixels,
    pixel_predictions,
    score_features,
)
from .negatives import (
    LOWEST_TEMPERATURE,
    ExpectedNegatives,
    SampledNegatives,
    draw_negatives,
)
from .ranks import gather_rows, sum_over_ranks

NEGATIVES = ('expected', 'sampled')
ALL_RANKS = (False, True, 'detached')


@MODELS.register_module()
class PixelContrastLoss(nn.Module):
    """Pull a pixel's two views together, push it from pixels of other instances.

    A pixel of the weak view is drawn towards the strong view's at the same location,
    and away from R pixels of the weak view, drawn with probability proportional to the
    debiased score, how unlike the predictions of the two pixels are::

        L = mean_p -log( e^(s+) / (e^(s+) + sum_r e^(s-_r)) )
        s+ = <z_weak[p], z_strong[p]> / T,   s- = <z_weak[p], z_weak[q_r]> / T

    With ``negatives='expected'`` the sum over draws is replaced by its expectation
    over them, ``R * sum_q w_q e^(s-_q) / sum_q w_q`` over all candidates q of score
    w_q: the same negatives without the noise of drawing them.

    Source: CAST, arXiv 2505.21904. Time grows with anchors times candidates, memory
    with their sum: :mod:`mmcast.models.losses.negatives`.

    Args:
        temperature: T, at least 0.025, or ``dict(start=, end=, iters=)``: linear over
            that many training forwards, which are counted in the state dict (several an
            iteration where gradients are accumulated).
        num_negatives: R, negatives of an anchor.
        negatives: ``'expected'`` or ``'sampled'``.
        replacement: Whether a candidate may be drawn twice for an anchor; only where
            negatives are sampled.
        score: What tells two pixels' instances apart: ``'fused'`` (query and class
            distributions), ``'mask'`` (queries), ``'class'`` or ``'uniform'``
            (every pixel alike). Across images, queries cannot be compared:
            ``'fused'`` falls to the class part, ``'mask'`` to uniform.
        unit_scores: Whether scores are cosines of the distributions, else their inner
            products.
        score_floor: Added to the score of every candidate.
        candidates: Where negatives come from: ``'all'`` (same and other images),
            ``'same_image'`` or ``'other_images'``.
        margin: Similarities over T count for negatives only as far as they exceed it:
            ``max(s- - margin, 0)``; None for no margin.
        max_anchors: Anchors of a batch, drawn anew from its pixels; None for all.
        max_candidates: Candidates of a batch, likewise.
        memory: Candidates of past batches kept as further negatives, without gradient.
            They count as other images'. Forgotten when a run is resumed.
        all_ranks: Whether pixels of all ranks are candidates, as other images'. With
            ``True``, loss and gradient are those of the joined batch; with
            ``'detached'`` the loss is, but no gradient goes back to other ranks'
            pixels, which saves a reduction over the ranks in backward.
        loss_weight: Factor on the result (lambda_pxl).

    Raises:
        ValueError: An argument is out of its range.
    """

    step: Tensor

    def __init__(
        self,
        temperature: float | dict[str, float] = 0.2,
        num_negatives: int = 200,
        negatives: str = 'expected',
        replacement: bool = True,
        score: str = 'fused',
        unit_scores: bool = True,
        score_floor: float = 0.0,
        candidates: str = 'all',
        margin: float | None = None,
        max_anchors: int | None = 4096,
        max_candidates: int | None = 4096,
        memory: int = 0,
        all_ranks: bool | str = False,
        loss_weight: float = 0.1,
    ) -> None:
        super().__init__()
        schedule = (
            temperature
            if isinstance(temperature, dict)
            else dict(start=temperature, end=temperature, iters=1)
        )
        if set(schedule) != {'start', 'end', 'iters'}:
            raise ValueError(
                f'temperature={temperature!r} must be a number or '
                'dict(start=..., end=..., iters=...).'
            )
        for value in (schedule['start'], schedule['end']):
            if not (value >= LOWEST_TEMPERATURE and math.isfinite(value)):
                raise ValueError(
                    f'temperature={value} must be at least {LOWEST_TEMPERATURE}; 0.07 '
                    'to 0.4 is usual.'
                )
        for name, count, least in (
            ('temperature.iters', schedule['iters'], 1),
            ('num_negatives', num_negatives, 1),
            ('max_anchors', max_anchors, 1),
            ('max_candidates', max_candidates, 1),
            ('memory', memory, 0),
        ):
            optional = name.startswith('max_') and count is None
            if not optional and not (isinstance(count, int) and count >= least):
                raise ValueError(
                    f'{name}={count!r} must be an integer of at least {least}.'
                )
        for name, choice, known in (
            ('score', score, SCORES),
            ('candidates', candidates, CANDIDATES),
            ('negatives', negatives, NEGATIVES),
            ('all_ranks', all_ranks, ALL_RANKS),
        ):
            if choice not in known:
                raise ValueError(
                    f'{name}={choice!r} is unknown; choose one of {known}.'
                )
        if (memory or all_ranks) and candidates == 'same_image':
            raise ValueError(
                "candidates='same_image' leaves no room for memory and all_ranks, "
                "whose pixels are other images': set candidates='all' or drop them."
            )
        for name, number in (
            ('score_floor', score_floor),
            ('margin', margin or 0.0),
            ('loss_weight', loss_weight),
        ):
            if not (number >= 0 and math.isfinite(number)):
                raise ValueError(f'{name}={number} must not be negative.')
        self.schedule = schedule
        self.num_negatives = num_negatives
        self.negatives = negatives
        self.replacement = replacement
        self.score = score
        self.unit_scores = unit_scores
        self.score_floor = score_floor
        self.candidates = candidates
        self.margin = margin
        self.max_anchors = max_anchors
        self.max_candidates = max_candidates
        self.memory = memory
        self.all_ranks = all_ranks
        self.loss_weight = loss_weight
        self._remembered: tuple[Tensor, Tensor] | None = None
        self.scheduled = schedule['start'] != schedule['end']
        if self.scheduled:
            self.register_buffer('step', torch.zeros((), dtype=torch.long))
        self._count: int | None = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._count = None  # read from what was loaded

    @property
    def temperature(self) -> float:
        """T of the next training forward."""
        start, end, iters = (self.schedule[key] for key in ('start', 'end', 'iters'))
        if not self.scheduled:
            return start
        return start + (end - start) * min(self._forwards() / iters, 1.0)

    def _forwards(self) -> int:
        """Training forwards so far."""
        if self._count is None:
            self._count = int(self.step)  # waits for the device, hence only once
        return self._count

    @torch.compiler.disable  # its loops over blocks would be unrolled
    def forward(
        self,
        z_weak: Tensor,
        z_strong: Tensor,
        mask_logits: Tensor,
        class_logits: Tensor,
    ) -> Tensor:
        """Loss of a batch, already times ``loss_weight``.

        Computed in float32 (float64 for such embeddings) whatever the inputs' dtype and
        under autocast. Anchors without any candidate of positive score (a single image
        in which all predictions are equal, one image with
        ``candidates='other_images'``) are left out of the mean. NaN or Inf in any input
        makes the loss NaN, and with it the anchors' gradients, so that the runner's
        loss check and the gradient scaler see it.

        Args:
            z_weak: ``(B, D, h, w)`` float, embeddings of the weak view, anchors
                and negatives; L2-normalised here.
            z_strong: The same of the strong view, positives. Detach it for the
                author's variant.
            mask_logits: ``(B, K, H, W)`` float, the last layer's masks at any
                resolution; no gradient flows back.
            class_logits: ``(B, K, C + 1)`` float, its classes; no gradient either.

        Returns:
            Scalar float32; an exact zero with a graph if no anchor has a negative.

        Raises:
            ValueError: The shapes do not fit together.
        """
        self._check(z_weak, z_strong, mask_logits, class_logits)
        with torch.autocast(z_weak.device.type, enabled=False):
            dtype = torch.promote_types(z_weak.dtype, torch.float32)
            z_weak, z_strong = z_weak.to(dtype), z_strong.to(dtype)
            pixels = z_weak.shape[2] * z_weak.shape[3]
            most = (self.max_anchors, self.max_candidates)
            at_anchors_BP, at_candidates_BP = (
                draw_pixels(len(z_weak), pixels, bound, z_weak.device) for bound in most
            )
            predictions = (mask_logits.detach(), class_logits.detach().to(dtype))
            anchors = self._pixels(z_weak, *predictions, at_anchors_BP)
            positive_AD = _rows(gather_pixels(z_strong, at_anchors_BP))
            candidates = self._with_others(
                self._pixels(z_weak, *predictions, at_candidates_BP)
            )
            log_neg_A, has_negatives_A = self._log_negatives(anchors, candidates)
            pos_A = (anchors.z * positive_AD).sum(1) / self.temperature
            total, count = contrast(pos_A, log_neg_A, has_negatives_A)
            ranks = 1
            if self.all_ranks:
                count, ranks = sum_over_ranks(count)
            # Factors, not a branch: no wait for the device.
            inputs = (z_weak.detach(), z_strong.detach(), *predictions)
            sums = torch.stack([x.sum(dtype=dtype) for x in inputs])
            finite = sums.isfinite().all()
            loss = total * ranks / count.clamp(min=1)
            if self.training and self.scheduled:
                self._count = self._forwards() + 1
                self.step += 1
            return loss * self.loss_weight * torch.where(finite, 1.0, torch.nan)

    @torch.no_grad()
    def draw(
        self, z_weak: Tensor, mask_logits: Tensor, class_logits: Tensor, anchors: int
    ) -> tuple[Pixels, Pixels, Tensor]:
        """Draw negatives of some anchors of the batch, to be looked at.

        Args:
            z_weak: As in :meth:`forward`, and so are the two that follow.
            anchors: Their number at most.

        Returns:
            Anchors, candidates (the batch's own), and the index of each anchor's R
            drawn candidates ``(A, R)`` int64; M for a draw that found none.
        """
        z = z_weak.float()
        count = z.shape[2] * z.shape[3]
        drawn, among = (
            self._pixels(
                z,
                mask_logits,
                class_logits.float(),
                draw_pixels(len(z), count, most, z.device),
            )
            for most in (anchors, self.max_candidates)
        )
        pairing = Pairing(drawn, among, self.candidates, self.score_floor)
        total = len(among.z)
        index_AR = torch.full(
            (len(drawn.z), self.num_negatives), total, device=z.device
        )
        for rows, span, s_nm, index_nR in draw_negatives(
            pairing, self.num_negatives, self.replacement
        ):
            index_AR[rows, : index_nR.shape[1]] = torch.where(
                index_nR < s_nm.shape[1], index_nR + span.start, total
            )
        return drawn, among, index_AR

    def _pixels(
        self,
        z: Tensor,
        mask_logits: Tensor,
        class_logits: Tensor,
        index_BP: Tensor,
    ) -> Pixels:
        """Unit embeddings and score features of some pixels of each image."""
        size = (z.shape[2], z.shape[3])
        image_B1 = torch.arange(len(z), device=z.device)[:, None]
        with torch.no_grad():
            p_BPK, f_BPC = pixel_predictions(mask_logits, class_logits, size, index_BP)
            same_BPF, cross_BPF = score_features(
                p_BPK, f_BPC, self.score, self.unit_scores
            )
        return Pixels(
            _rows(gather_pixels(z, index_BP)),
            same_BPF.flatten(0, 1),
            cross_BPF.flatten(0, 1),
            (index_BP + image_B1 * size[0] * size[1]).flatten(),
            (index_BP.shape[1],) * len(index_BP),
        )

    def _with_others(self, own: Pixels) -> Pixels:
        """Append the candidates of other ranks and of past batches."""
        parts = [(own.z, own.cross)]
        if self.all_ranks:
            z = own.z.detach() if self.all_ranks == 'detached' else own.z
            parts += gather_rows(z, own.cross)
        if self.memory:
            new = parts
            if self._remembered is not None:
                parts = [*parts, self._remembered]
            if self.training:
                past = [] if self._remembered is None else [self._remembered]
                # A batch that overflowed must not spoil those that come after it.
                z, cross = (
                    torch.cat([part[i].detach() for part in (*past, *new)]).nan_to_num(
                        0.0, 0.0, 0.0
                    )
                    for i in (0, 1)
                )
                self._remembered = (z[-self.memory :], cross[-self.memory :])
        z, cross = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        return Pixels(z, own.same, cross, own.place, own.counts)

    def _log_negatives(
        self, anchors: Pixels, candidates: Pixels
    ) -> tuple[Tensor, Tensor]:
        pairing = Pairing(anchors, candidates, self.candidates, self.score_floor)
        arguments = (anchors.z, candidates.z, pairing, self.temperature, self.margin)
        if self.negatives == 'sampled':
            log_A, has_A, _ = SampledNegatives.apply(
                *arguments, self.num_negatives, self.replacement
            )
            return log_A, has_A
        log_A, has_A = ExpectedNegatives.apply(*arguments)
        return log_A + math.log(self.num_negatives), has_A

    @staticmethod
    def _check(
        z_weak: Tensor, z_strong: Tensor, mask_logits: Tensor, class_logits: Tensor
    ) -> None:
        if z_weak.dim() != 4 or z_weak.shape != z_strong.shape or not z_weak.numel():
            raise ValueError(
                f'z_weak {tuple(z_weak.shape)} and z_strong {tuple(z_strong.shape)} '
                'must be non-empty (B, D, h, w) of one shape; make the strong view '
                'photometric only.'
            )
        if (
            mask_logits.dim() != 4
            or class_logits.dim() != 3
            or mask_logits.shape[:2] != class_logits.shape[:2]
            or len(mask_logits) != len(z_weak)
        ):
            raise ValueError(
                f'mask_logits {tuple(mask_logits.shape)} and class_logits '
                f'{tuple(class_logits.shape)} must be (B, K, H, W) and (B, K, C + 1) '
                f"with the embeddings' B={len(z_weak)}; pass one decoder layer's "
                'predictions of the same batch.'
            )


def _rows(z_BPD: Tensor) -> Tensor:
    """Unit embeddings ``(B * P, D)``."""
    # Not 1e-12: the gradient of an embedding that is zero stays within float16.
    return F.normalize(z_BPD.flatten(0, 1), dim=-1, eps=1e-4)
