"""Instance-aware pixel contrastive loss of CAST as a registered module."""

import math

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from .functional import (
    CANDIDATES,
    SCORES,
    aggregate_predictions,
    pixel_contrast,
    score_features,
)


@MODELS.register_module()
class PixelContrastLoss(nn.Module):
    """Pull a pixel's two views together, push it from pixels of other instances.

    For each pixel of the weak view, R negatives are drawn from the weak view with
    probability proportional to how unlike the predictions of the two pixels are::

        L = mean_p -log( e^(s+) / (e^(s+) + sum_r e^(s-_r)) )
        s+ = <z_weak[p], z_strong[p]> / T,   s- = <z_weak[p], z_weak[q_r]> / T

    Source: CAST, arXiv 2505.21904, in the paper's form (the author's research code
    has class-only sampling from other images, ``score='class'`` with
    ``candidates='other_images'``, but without normalised vectors, without
    replacement and with a hinge).

    Args:
        temperature: T > 0; a plain attribute, so that a hook may anneal it.
        num_negatives: R, negatives of an anchor, drawn with replacement.
        score: What tells two pixels' instances apart: ``'fused'`` (query and class
            distributions), ``'mask'`` (queries), ``'class'`` or ``'uniform'``
            (every pixel alike). Across images, queries cannot be compared:
            ``'fused'`` falls to the class part, ``'mask'`` to uniform.
        candidates: Where negatives come from: ``'all'`` (same and other images),
            ``'same_image'`` or ``'other_images'``.
        chunk_size: Anchors taken at a time. Changes memory, not the result.
        loss_weight: Factor on the result (lambda_pxl).

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        temperature: float = 0.2,
        num_negatives: int = 200,
        score: str = 'fused',
        candidates: str = 'all',
        chunk_size: int = 1024,
        loss_weight: float = 0.1,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(
                f'temperature={temperature} must be positive; 0.07 to 0.4 is usual.'
            )
        for name, value in (
            ('num_negatives', num_negatives),
            ('chunk_size', chunk_size),
        ):
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f'{name}={value!r} must be an integer of at least 1.')
        if score not in SCORES:
            raise ValueError(f'score={score!r} is unknown; choose one of {SCORES}.')
        if candidates not in CANDIDATES:
            raise ValueError(
                f'candidates={candidates!r} is unknown; choose one of {CANDIDATES}.'
            )
        if not (loss_weight >= 0 and math.isfinite(loss_weight)):
            raise ValueError(
                f'loss_weight={loss_weight} must not be negative; 0 disables the loss.'
            )
        self.temperature = temperature
        self.num_negatives = num_negatives
        self.score = score
        self.candidates = candidates
        self.chunk_size = chunk_size
        self.loss_weight = loss_weight

    def forward(
        self,
        z_weak: Tensor,
        z_strong: Tensor,
        mask_logits: Tensor,
        class_logits: Tensor,
    ) -> Tensor:
        """Loss of a batch, already times ``loss_weight``.

        Computed in float32 whatever the inputs' dtype and under autocast. Anchors
        without any candidate of positive score (a single image in which all
        predictions are equal, one image with ``candidates='other_images'``) are
        left out of the mean. NaN or Inf in any input makes the loss NaN, and with
        it the anchors' gradients, so that the runner's loss check and the gradient
        scaler see it.

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
        size = (z_weak.shape[2], z_weak.shape[3])
        with torch.autocast(z_weak.device.type, enabled=False):
            weak_BDhw, strong_BDhw = z_weak.float(), z_strong.float()
            with torch.no_grad():
                masks, classes = mask_logits.float(), class_logits.float()
                finite = torch.stack(
                    [
                        x.isfinite().all()
                        for x in (weak_BDhw, strong_BDhw, masks, classes)
                    ]
                ).all()
                p_BNK, f_BNC = aggregate_predictions(masks, classes, size)
                same_BNF, cross_BNF = score_features(p_BNK, f_BNC, self.score)
            loss = pixel_contrast(
                F.normalize(weak_BDhw.flatten(2).transpose(1, 2), dim=-1),
                F.normalize(strong_BDhw.flatten(2).transpose(1, 2), dim=-1),
                same_BNF,
                cross_BNF,
                candidates=self.candidates,
                num_negatives=self.num_negatives,
                temperature=self.temperature,
                chunk_size=self.chunk_size,
            )
            # Factors, not a branch: no wait for the device.
            return loss * self.loss_weight * torch.where(finite, 1.0, torch.nan)
