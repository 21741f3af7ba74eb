"""A teacher's boxes as the soft instances of a pixel contrast.

No public code of CAST attaches the contrast to its teacher; this is a design of this
project. The boxes that the detector finds in the weak view replace a student's queries.
P_m is the softmax over them of the segmenter's mask logits. P_c has a box's score at
its label and the rest at "no object". One more slot is the background. Its mask logit
is 0 everywhere, which is the segmenter's threshold.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from mmcast.models.losses import Grid
from mmcast.models.segmenters import BoxSegmenter

STRIDE = 8  # of the masks; the backbone's last map is four times coarser
ABSENT = -30.0  # mask logit of a slot that an image does not use


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
        at = torch.arange(1, count + 1, device=image.device)
        chances[i, at, instances.labels] = instances.scores
        chances[i, at, -1] = 1 - instances.scores
    return masks, chances.clamp(min=1e-6).log()
