"""Instance-aware pixel contrastive loss of CAST as a registered module."""

import math
from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmcast.models.factored_masks import FactoredMasks, as_factored

from .draws import draw_pixels
from .grid import Grid
from .negatives import (
    ExpectedNegatives,
    SampledNegatives,
    info_nce,
)
from .pairs import CANDIDATES, Pairing, Pixels, unit_rows
from .scores import SCORES, pixel_predictions, score_features
from .temperature import Temperature

NEGATIVES = ('expected', 'sampled')


@MODELS.register_module()
class PixelContrastLoss(nn.Module):
    """Pull a pixel's two views together, push it from pixels of other instances.

    The positive of a pixel p of the weak view is the strong view's pixel at the same
    location. Its negatives are R pixels q of the weak view. A negative is drawn with
    probability proportional to its debiased score, which says how unlike the
    predictions of the two pixels are::

        L = mean_p -log( e^(s+) / (e^(s+) + sum_r e^(s-_r)) )
        s+ = <z_weak[p], z_strong[p]> / T,   s- = <z_weak[p], z_weak[q_r]> / T

    With ``negatives='expected'`` the sum over draws is replaced by its expectation,
    ``R * sum_q w_q e^(s-_q) / sum_q w_q`` over all candidates q of score w_q: the same
    negatives without the noise of drawing them.

    Source: CAST, arXiv 2505.21904. Time grows with anchors times candidates, memory
    with their sum: :mod:`mmcast.models.losses.negatives`.

    Args:
        temperature: T, at least 0.025, or ``dict(start=, end=, iters=)``: linear over
            that many training forwards. The state dict counts these; accumulated
            gradients take several an iteration.
        num_negatives: R, negatives of an anchor.
        negatives: ``'expected'`` or ``'sampled'``.
        replacement: Whether a candidate may be drawn twice for an anchor; for
            ``'sampled'`` only.
        score: What tells two pixels' instances apart: ``'fused'`` (query and class
            distributions), ``'mask'`` (queries), ``'class'`` or ``'uniform'``
            (all pixels are unlike). Queries of different images cannot be compared:
            there ``'fused'`` uses the class part and ``'mask'`` is uniform.
        unit_scores: Whether scores are cosines of the distributions instead of inner
            products.
        score_floor: f, for ``'sampled'`` only: a score s becomes
            ``s + f * (1 + sum(s + f))``, with the sum over the anchor's candidates.
            CAST's research code does the same: it adds f before and after normalising.
        candidates: Where negatives come from: ``'all'`` (same and other images),
            ``'same_image'`` or ``'other_images'``.
        margin: A negative counts only as far as its similarity over T exceeds this:
            ``max(s- - margin, 0)``; None for no margin.
        max_anchors: Bound on the anchors of a batch, drawn at random; None for all
            pixels.
        max_candidates: The same for candidates.
        loss_weight: Factor on the result (lambda_pxl).

    Raises:
        ValueError: An argument is out of its range.
    """

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
        loss_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature)
        for name, count in (
            ('num_negatives', num_negatives),
            ('max_anchors', max_anchors),
            ('max_candidates', max_candidates),
        ):
            optional = name.startswith('max_') and count is None
            if not optional and not (isinstance(count, int) and count >= 1):
                raise ValueError(f'{name}={count!r} must be an integer of at least 1.')
        for name, choice, known in (
            ('score', score, SCORES),
            ('candidates', candidates, CANDIDATES),
            ('negatives', negatives, NEGATIVES),
        ):
            if choice not in known:
                raise ValueError(
                    f'{name}={choice!r} is unknown; choose one of {known}.'
                )
        if score_floor and negatives == 'expected':
            raise ValueError(
                f"score_floor={score_floor} needs negatives='sampled': set that, or "
                'score_floor=0.'
            )
        for name, number in (
            ('score_floor', score_floor),
            ('margin', margin or 0.0),
            ('loss_weight', loss_weight),
        ):
            if not (number >= 0 and math.isfinite(number)):
                raise ValueError(f'{name}={number} must not be negative.')
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
        self.loss_weight = loss_weight

    @torch.compiler.disable  # its loops over blocks would be unrolled
    def forward(
        self,
        z_weak: Tensor,
        z_strong: Tensor,
        masks: FactoredMasks | Tensor,
        class_logits: Tensor,
        grid: Grid | None = None,
    ) -> Tensor:
        """Compute the loss of a batch, already times ``loss_weight``.

        Computed in float32 (float64 for float64 embeddings), for any input dtype and
        under autocast. The mean leaves out anchors without a candidate of positive
        score, as in a single image with equal predictions everywhere. NaN or Inf in any
        input makes the loss NaN, and with it the anchors' gradients, so that the
        runner's loss check and the gradient scaler notice it.

        Args:
            z_weak: ``(B, D, h, w)`` float, embeddings of the weak view, anchors
                and negatives; L2-normalised here.
            z_strong: The same of the strong view, positives. Detach it for the
                research code's variant.
            masks: The last layer's masks, or their logits ``(B, K, H, W)`` float, at
                any resolution; no gradient flows back.
            class_logits: ``(B, K, C + 1)`` float, its classes; no gradient either.
            grid: Positions of the embeddings' cells, and which of them are padding;
                None for evenly spaced cells without padding.

        Returns:
            Scalar float32; an exact zero with a graph if no anchor has a negative.

        Raises:
            ValueError: The shapes do not fit together, or negatives come from other
                images only and there is none.
        """
        self._check(z_weak, z_strong, masks, class_logits)
        h, w = z_weak.shape[2:]
        grid = grid or Grid.without_padding(len(z_weak), (h, w))
        with torch.autocast(z_weak.device.type, enabled=False):
            dtype = torch.promote_types(z_weak.dtype, torch.float32)
            z_weak, z_strong = z_weak.to(dtype), z_strong.to(dtype)
            masks = as_factored(masks).detach()
            classes = class_logits.detach().to(dtype)
            drawn, among = (
                draw_pixels(grid.parts, w, most, z_weak.device)
                for most in (self.max_anchors, self.max_candidates)
            )
            anchors = self.take(z_weak, masks, classes, grid, drawn)
            candidates = self.take(z_weak, masks, classes, grid, among)
            positive_AD = unit_rows(z_strong, drawn)
            log_neg_A, has_negatives_A = self._log_negatives(anchors, candidates)
            pos_A = (anchors.z * positive_AD).sum(1) / self.temperature.value
            total, count = info_nce(pos_A, log_neg_A, has_negatives_A)
            # Factors instead of a branch, which would wait for the device.
            inputs = (z_weak.detach(), z_strong.detach(), *masks.factors, classes)
            sums = torch.stack([x.sum(dtype=dtype) for x in inputs])
            finite = sums.isfinite().all()
            loss = total / count.clamp(min=1)
            if self.training:
                self.temperature.advance()
            return loss * self.loss_weight * torch.where(finite, 1.0, torch.nan)

    def take(
        self,
        z: Tensor,
        masks: FactoredMasks,
        class_logits: Tensor,
        grid: Grid,
        index: Sequence[Tensor],
    ) -> Pixels:
        """Return embeddings and score features of some pixels of a batch.

        Args:
            z: As in :meth:`forward`, like the three arguments after it.
            masks: See there.
            class_logits: See there.
            grid: See there.
            index: Pixels of each image, see
                :func:`~mmcast.models.losses.draws.draw_pixels`.
        """
        cells = z.shape[2] * z.shape[3]
        with torch.no_grad():
            read = [
                pixel_predictions(
                    masks[b : b + 1].at_points(grid.points(index_P)[None], 'border')[0],
                    class_logits[b],
                )
                for b, index_P in enumerate(index)
            ]
            p_AK, f_AC = (torch.cat(part) for part in zip(*read, strict=True))
            same_AF, cross_AF = score_features(p_AK, f_AC, self.score, self.unit_scores)
        return Pixels(
            unit_rows(z, index),
            same_AF,
            cross_AF,
            torch.cat([index_P + b * cells for b, index_P in enumerate(index)]),
            tuple(len(index_P) for index_P in index),
        )

    def _log_negatives(
        self, anchors: Pixels, candidates: Pixels
    ) -> tuple[Tensor, Tensor]:
        pairing = Pairing(anchors, candidates, self.candidates)
        temperature = self.temperature.value
        arguments = (anchors.z, candidates.z, pairing, temperature, self.margin)
        if self.negatives == 'sampled':
            log_A, has_A, _ = SampledNegatives.apply(
                *arguments, self.num_negatives, self.replacement, self.score_floor
            )
            return log_A, has_A
        log_A, has_A = ExpectedNegatives.apply(*arguments)
        return log_A + math.log(self.num_negatives), has_A

    def _check(
        self,
        z_weak: Tensor,
        z_strong: Tensor,
        masks: FactoredMasks | Tensor,
        class_logits: Tensor,
    ) -> None:
        if z_weak.dim() != 4 or z_weak.shape != z_strong.shape or not z_weak.numel():
            raise ValueError(
                f'z_weak {tuple(z_weak.shape)} and z_strong {tuple(z_strong.shape)} '
                'must be non-empty (B, D, h, w) of one shape; make the strong view '
                'photometric only.'
            )
        if (
            len(masks.shape) != 4
            or class_logits.dim() != 3
            or masks.shape[:2] != class_logits.shape[:2]
            or len(masks) != len(z_weak)
        ):
            raise ValueError(
                f'masks {tuple(masks.shape)} and class_logits '
                f'{tuple(class_logits.shape)} must be (B, K, H, W) and (B, K, C + 1) '
                f"with the embeddings' B={len(z_weak)}; pass one decoder layer's "
                'predictions of the same batch.'
            )
        if self.candidates == 'other_images' and len(z_weak) < 2:
            raise ValueError(
                "candidates='other_images' needs at least 2 images per device, got "
                "1: raise train_dataloader.batch_size or set candidates='all'"
            )
