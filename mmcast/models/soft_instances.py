"""Instances that replace a masked decoder's queries in a pixel contrast.

No public code of CAST attaches the contrast to its teacher, or to a student without
queries; both are designs of this project. The instances are the boxes that a composite
teacher finds in the weak view, with the segmenter's masks, or the labels of the batch.
P_m is the softmax over them of mask logits. P_c has an instance's score at its label
and the rest at "no object". One more slot is the background. Its mask logit is 0
everywhere, which is the segmenter's threshold.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmcast.models.losses import Grid
from mmcast.models.pseudo_labels import masks_on_grid
from mmcast.models.segmenters import BoxSegmenter

STRIDE = 8  # of the masks; the backbone's last map is four times coarser
ABSENT = -30.0  # mask logit outside a mask, and of a slot that an image does not use
LEAST = 1e-6  # chance of a class, so that it has a logarithm


@torch.no_grad()
def soft_instances(
    segmenter: BoxSegmenter,
    images: Sequence[Tensor],
    found: Sequence[InstanceData],
    size: tuple[int, int],
    num_classes: int,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Return mask and class logits of a batch, in the form of a student's queries.

    Args:
        segmenter: Prompted with the boxes.
        images: B images without padding, each RGB, float (3, h, w) in [0, 255].
        found: For each image at most K - 1 ``bboxes`` in its pixels, ``labels`` and
            ``scores``.
        size: Height and width of the padded batch, (H, W).
        num_classes: C.
        chunk: Boxes at a time, which bounds the memory for logits.

    Returns:
        Mask logits (B, K, H / 8, W / 8), sides rounded up, and class logits
        (B, K, C + 1), both float; slot 0 is the background.
    """
    slots = 1 + max(len(instances) for instances in found)
    height, width = (-(-side // STRIDE) for side in size)
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    grid = Grid.of_map((height, width), sizes, size)
    masks = images[0].new_full((len(images), slots, height, width), ABSENT)
    masks[:, 0] = 0
    chances = images[0].new_zeros(len(images), slots, num_classes + 1)
    chances[..., -1] = 1
    for i, (image, instances) in enumerate(zip(images, found, strict=True)):
        count = len(instances)
        if not count:
            continue
        rows, columns = grid.parts[i]
        # The map's cells, as places in this image: -1 to 1, as grid_sample wants them.
        y, x = (
            (centres[:cells].to(image) * whole / side) * 2 - 1
            for centres, cells, whole, side in zip(
                grid[:2], grid.parts[i], size, sizes[i], strict=True
            )
        )
        cells = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1)[None]
        encoded = segmenter.encode(image)
        for start in range(0, count, chunk):
            boxes = instances.bboxes[start : start + chunk]
            logits = segmenter.mask_logits(encoded, boxes, sizes[i])
            read = F.grid_sample(
                logits[None], cells, padding_mode='border', align_corners=False
            )
            slot = slice(1 + start, 1 + start + len(boxes))
            masks[i, slot, :rows, :columns] = read[0]
        _set_chances(chances[i], instances.labels, instances.scores)
    return masks, chances.clamp(min=LEAST).log()


@torch.no_grad()
def labeled_instances(
    samples: SampleList,
    grid: Grid,
    padded: tuple[int, int],
    num_classes: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return a batch's labels and pseudo-labels in the form of a student's queries.

    A pixel in no mask is background. One in several belongs to each by the same share.

    Args:
        samples: With ``gt_instances``: ``labels``, ``masks`` of the padded image or of
            the image, and maybe ``scores``, as an online teacher gives; without them
            a label's score is 1.
        grid: Centres of the embeddings' cells, (h, w) of them.
        padded: Height and width of the padded batch in pixels.
        num_classes: C.
        device: Of the result.

    Returns:
        Mask logits (B, K, h, w) at these centres, and class logits (B, K, C + 1), both
        float32; slot 0 is the background.
    """
    slots = 1 + max(len(sample.gt_instances) for sample in samples)
    cells = (len(grid.y), len(grid.x))
    masks = torch.full((len(samples), slots, *cells), ABSENT, device=device)
    masks[:, 0] = 0
    chances = torch.zeros(len(samples), slots, num_classes + 1, device=device)
    chances[..., -1] = 1
    for i, sample in enumerate(samples):
        given = sample.gt_instances
        count = len(given)
        if not count:
            continue
        inside = masks_on_grid(given.masks, padded, grid).to(device)
        masks[i, 1 : 1 + count][inside] = -ABSENT
        labels = given.labels.to(device)
        scores = given.get('scores', torch.ones(count, device=device))
        _set_chances(chances[i], labels, scores)
    return masks, chances.clamp(min=LEAST).log()


def _set_chances(chances: Tensor, labels: Tensor, scores: Tensor) -> None:
    """Fill in P_c (K, C + 1) of n instances, from slot 1 on."""
    at = torch.arange(1, len(labels) + 1, device=labels.device)
    chances[at, labels] = scores
    chances[at, -1] = 1 - scores
