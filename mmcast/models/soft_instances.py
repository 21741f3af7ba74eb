"""A teacher's boxes as the soft instances of a pixel contrast.

No public code of CAST attaches the contrast to its teacher; this is a design of this
project. The instances that a student's queries stand for are the boxes the detector
finds in the weak view: P_m is the softmax over them of the segmenter's mask logits, P_c
has a box's score at its label and the rest at "no object". One more slot, whose mask
logit is 0 everywhere, the segmenter's own threshold, is the background.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmcast.models.segmenters import BoxSegmenter

STRIDE = 8  # of the masks; the backbone's last map is four times coarser
OUTSIDE = -30.0  # mask logit where an image has no such slot, or is padding


@torch.no_grad()
def soft_instances(
    segmenter: BoxSegmenter,
    images: Sequence[Tensor],
    found: Sequence[InstanceData],
    size: tuple[int, int],
    num_classes: int,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Mask and class logits of a batch, as of a student's queries.

    Args:
        segmenter: Prompted with the boxes.
        images: B images without padding, each RGB, float (3, h, w) in [0, 255].
        found: Of each image at most K - 1 ``bboxes`` in its pixels, ``labels`` and
            ``scores``.
        size: Height and width of the padded batch, (H, W).
        num_classes: C.
        chunk: Boxes at a time, which bounds the memory for logits.

    Returns:
        Mask logits (B, K, H / 8, W / 8), sides rounded up, and class logits
        (B, K, C + 1), both float; slot 0 is the background.
    """
    slots = 1 + max(len(instances) for instances in found)
    sides = [-(-side // STRIDE) for side in size]
    masks = images[0].new_full((len(images), slots, *sides), OUTSIDE)
    masks[:, 0] = 0
    chances = images[0].new_zeros(len(images), slots, num_classes + 1)
    chances[..., -1] = 1
    for i, (image, instances) in enumerate(zip(images, found, strict=True)):
        count = len(instances)
        if not count:
            continue
        height, width = image.shape[-2:]
        h, w = (max(1, round(side / STRIDE)) for side in (height, width))
        encoded = segmenter.encode(image)
        for start in range(0, count, chunk):
            boxes = instances.bboxes[start : start + chunk]
            logits = segmenter.mask_logits(encoded, boxes, (height, width))
            masks[i, 1 + start : 1 + start + len(boxes), :h, :w] = F.interpolate(
                logits[None], (h, w), mode='bilinear'
            )[0]
        rows = torch.arange(1, count + 1, device=image.device)
        chances[i, rows, instances.labels] = instances.scores
        chances[i, rows, -1] = 1 - instances.scores
    return masks, chances.clamp(min=1e-6).log()
