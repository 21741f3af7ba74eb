"""Turn boxes into masks of the image's size, with any segmenter."""

import inspect

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import BoxSegmenter


@torch.no_grad()
def predict_masks(
    segmenter: BoxSegmenter,
    image: Tensor,
    boxes: Tensor,
    chunk: int,
    rough: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Segment the boxes of one image, which is encoded once.

    Args:
        segmenter: The model.
        image: RGB, (3, H, W), uint8 or float in [0, 255].
        boxes: Float (n, 4), xyxy in pixels.
        chunk: Boxes per call of the segmenter; bounds the memory for logits.
        rough: Rough masks as prompts, too, bool (n, H, W), for a segmenter that takes
            ``masks``.

    Returns:
        Masks, bool (n, H, W), and their qualities, float32 (n,); None if the segmenter
        does not know them.
    """
    height, width = image.shape[-2:]
    masks = torch.zeros(
        (len(boxes), height, width), dtype=torch.bool, device=boxes.device
    )
    qualities = boxes.new_zeros(len(boxes), dtype=torch.float32)
    if not len(boxes):
        return masks, qualities
    known = True
    encoded = segmenter.encode(image)
    for start in range(0, len(boxes), chunk):
        part = slice(start, start + chunk)
        prompts = {} if rough is None else {'masks': rough[part].float() * 2 - 1}
        logits, quality = segmenter.segment(
            encoded, boxes[part], (height, width), **prompts
        )
        masks[part] = (
            F.interpolate(logits[None], (height, width), mode='bilinear')[0] > 0
        )
        known = quality is not None
        if quality is not None:
            qualities[part] = quality
    return masks, qualities if known else None


def check_takes_masks(segmenter: BoxSegmenter, option: str) -> None:
    """Raise a ValueError if an option gives rough masks, and a segmenter takes none."""
    if 'masks' not in inspect.signature(segmenter.segment).parameters:
        raise ValueError(
            f'{type(segmenter).__name__} takes no masks as prompts: remove {option}.'
        )


def remove_overlap(masks: Tensor) -> Tensor:
    """Give each pixel to the first mask that covers it.

    Args:
        masks: Bool (n, H, W), best first.

    Returns:
        A new tensor of the same shape.
    """
    kept = torch.empty_like(masks)
    taken = torch.zeros_like(masks[0]) if len(masks) else masks
    for i, mask in enumerate(masks):
        kept[i] = mask & ~taken
        taken |= mask
    return kept
