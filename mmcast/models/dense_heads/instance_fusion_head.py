"""Instances from a masked decoder's queries, a few masks at a time."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models import MaskFormerFusionHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmcast.models.factored_masks import FactoredMasks, as_factored


def most_pixels(device: torch.device) -> int:
    """Return how many pixels of masks to compute together; each needs 9 bytes."""
    return 2**21 if device.type == 'cpu' else 2**26  # fits into a processor's cache


@MODELS.register_module()
class InstanceFusionHead(MaskFormerFusionHead):
    """mmdet's ``MaskFormerFusionHead`` for instances, with bounded memory.

    It chooses the instances by their class scores first, and only then computes their
    masks, a few at a time. The results are mmdet's, and what the scores are made of.

    Args:
        kwargs: As mmdet's ``MaskFormerFusionHead``; its ``test_cfg`` must have
            ``panoptic_on=False``.

    Raises:
        ValueError: ``test_cfg`` asks for other results than instances, or there are
            classes of stuff.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**{'loss_panoptic': None, **kwargs})
        if self.num_stuff_classes:
            raise ValueError(
                'InstanceFusionHead finds things only: set num_stuff_classes=0'
            )
        if self.test_cfg and (
            self.test_cfg.get('panoptic_on', True)
            or self.test_cfg.get('semantic_on', False)
        ):
            raise ValueError(
                'InstanceFusionHead finds instances only: set test_cfg.panoptic_on='
                "False and semantic_on=False, or panoptic_fusion_head.type='"
                "MaskFormerFusionHead' of a Mask2Former."
            )

    def predict(
        self,
        mask_cls_results: Tensor,
        mask_pred_results: FactoredMasks | Tensor,
        batch_data_samples: SampleList,
        rescale: bool = False,
        **kwargs,
    ) -> list[dict[str, InstanceData]]:
        """Choose each image's instances.

        Args:
            mask_cls_results: Class logits (B, K, C + 1), the last one "no object".
            mask_pred_results: Masks, or their logits (B, K, h, w).
            batch_data_samples: The images' samples.
            rescale: Whether masks and boxes are for the original images.
            kwargs: Not used; mmdet's heads take any.

        Returns:
            For each image ``ins_results``: ``scores`` (n,), which are ``class_scores``
            (n,) times ``mask_qualities`` (n,), ``labels`` (n,), ``bboxes`` (n, 4) and
            bool ``masks`` (n, H, W), not contiguous.
        """
        masks = as_factored(mask_pred_results)
        return [
            {
                'ins_results': self._instances(
                    classes, masks[i : i + 1], sample.metainfo, rescale
                )
            }
            for i, (classes, sample) in enumerate(
                zip(mask_cls_results, batch_data_samples, strict=True)
            )
        ]

    def _instances(
        self, classes: Tensor, masks: FactoredMasks, meta: dict[str, Any], rescale: bool
    ) -> InstanceData:
        chances = classes.softmax(-1)[:, : self.num_things_classes]
        most = min(self.test_cfg.get('max_per_image', 100), chances.numel())
        scores, index = chances.flatten().topk(most, sorted=False)
        query, labels = index // chances.shape[1], index % chances.shape[1]
        # A query may stand for several classes.
        chosen, slot = query.unique(return_inverse=True)
        height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
        # Columns first in memory, as pycocotools wants them: encoding for CocoMetric
        # then takes half the time.
        found = torch.empty(
            len(query), width, height, dtype=torch.bool, device=classes.device
        ).transpose(1, 2)
        # In half precision a mean over a mask is not exact.
        exact = torch.promote_types(scores.dtype, torch.float32)
        quality = scores.new_empty(len(chosen), dtype=exact)
        boxes = scores.new_empty(len(chosen), 4, dtype=torch.float32)
        candidates = masks.computed([chosen])
        count = max(1, most_pixels(classes.device) // (height * width))
        every = torch.arange(len(chosen), device=classes.device)
        for start in range(0, len(chosen), count):
            part = slice(start, start + count)
            logits = candidates.of([every[part]]).to(exact)
            logits = full_size(logits, meta, rescale)
            inside = logits > 0
            rows = ((slot >= part.start) & (slot < part.stop)).nonzero()[:, 0]
            found[rows] = inside[slot[rows] - start]
            quality[part] = mask_scores(logits, inside)
            boxes[part] = mask_boxes(inside)
        return InstanceData(
            bboxes=boxes[slot],
            labels=labels,
            scores=scores * quality[slot],
            masks=found,
            class_scores=scores,
            mask_qualities=quality[slot],
        )


def full_size(logits: Tensor, meta: dict[str, Any], rescale: bool) -> Tensor:
    """Resize mask logits of a padded image to the image.

    Args:
        logits: (n, h, w) float.
        meta: The image's ``batch_input_shape``, ``img_shape`` and ``ori_shape``.
        rescale: Whether to return the original image's size instead of ``img_shape``.

    Returns:
        (n, H, W) float.
    """
    logits = _resized(logits, meta['batch_input_shape'])
    height, width = meta['img_shape'][:2]
    logits = logits[:, :height, :width]
    return _resized(logits, meta['ori_shape'][:2]) if rescale else logits


def mask_scores(logits: Tensor, inside: Tensor) -> Tensor:
    """Return the mean probability within each mask, (n,); 0 for an empty one.

    Args:
        logits: (n, H, W) float; overwritten.
        inside: Bool (n, H, W), the masks.
    """
    total = logits.sigmoid_().mul_(inside).flatten(1).sum(1)
    return total / (inside.flatten(1).sum(1) + 1e-6)


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the boxes (n, 4) float32 of bool masks (n, H, W).

    The same as mmdet's ``mask2bbox``, for all masks at once. A box is (x1, y1, x2, y2)
    in pixels, its ends exclusive; all 0 for an empty mask.
    """
    sides = []
    for axis in (1, 2):
        occupied = masks.any(axis).to(torch.uint8)
        first = occupied.argmax(1)
        end = occupied.shape[1] - occupied.flip(1).argmax(1)
        some = occupied.any(1)
        sides.append((first * some, end * some))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], dim=1).float()


def _resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(logits.shape[1:]) == tuple(size):
        return logits
    return F.interpolate(logits[:, None], tuple(size), mode='bilinear')[:, 0]
