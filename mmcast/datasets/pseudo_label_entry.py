"""The pseudo-labels of one image, and their JSON form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmcast.datasets.rle import is_whole


@dataclass(frozen=True)
class PseudoLabels:
    """The labels of one image, n instances in descending score.

    Attributes:
        size: Image height and width in pixels.
        labels: Class indices, int64, shape (n,).
        scores: Confidences in [0, 1], float32, shape (n,).
        bboxes: Boxes xyxy in pixels, float32, shape (n, 4).
        masks: Compressed COCO RLE dicts with ``size`` and ``counts`` (str).
    """

    size: tuple[int, int]
    labels: np.ndarray
    scores: np.ndarray
    bboxes: np.ndarray
    masks: list[dict[str, Any]]


def format_entry(
    name: str,
    size: tuple[int, int],
    labels: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    bboxes: Sequence[Sequence[float]] | np.ndarray,
    masks_rle: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Make the JSON of one image's labels, sorted by score.

    Args:
        name: The image's path relative to the image root.
        size: Image height and width in pixels.
        labels: Class indices, shape (n,).
        scores: Confidences in [0, 1], shape (n,).
        bboxes: Boxes xyxy in pixels, shape (n, 4).
        masks_rle: n compressed COCO RLE dicts (``counts`` bytes or str).

    Raises:
        ValueError: The lengths differ.
    """
    instances: list[dict[str, Any]] = [
        {
            'label': int(label),
            # Rounded to keep the files small.
            'score': round(float(score), 6),
            'bbox': [round(float(value), 2) for value in bbox],
            'segmentation': {
                'size': [int(side) for side in rle['size']],
                'counts': rle['counts'].decode()
                if isinstance(rle['counts'], bytes)
                else rle['counts'],
            },
        }
        for label, score, bbox, rle in zip(
            labels, scores, bboxes, masks_rle, strict=True
        )
    ]
    instances.sort(key=lambda instance: -instance['score'])
    return {
        'image': name,
        'size': [int(side) for side in size],
        'instances': instances,
    }


def parse_entry(entry: Any, name: str, num_classes: int) -> PseudoLabels:
    """Check the JSON of one image's labels and turn it into arrays.

    Args:
        entry: What :func:`format_entry` made, as read from a file.
        name: The image that the entry must belong to.
        num_classes: Number of classes; labels must be below it.

    Raises:
        KeyError, TypeError, ValueError: It is no entry, or belongs to another image.
    """
    if entry['image'] != name:
        raise ValueError(f'it belongs to image {entry["image"]}')
    height, width = entry['size']
    labels = np.array([i['label'] for i in entry['instances']], np.int64)
    scores = np.array([i['score'] for i in entry['instances']], np.float32)
    bboxes = np.array([i['bbox'] for i in entry['instances']], np.float32)
    masks = [i['segmentation'] for i in entry['instances']]
    if not ((labels >= 0) & (labels < num_classes)).all():
        raise ValueError(f'a label is outside the {num_classes} classes')
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError('a score is outside [0, 1]')
    if labels.size and (bboxes.shape[1:] != (4,) or not np.isfinite(bboxes).all()):
        raise ValueError('a box is not four finite numbers')
    for rle in masks:
        if list(rle['size']) != [height, width] or not is_whole(rle):
            raise ValueError(f'a mask does not cover {height}x{width} pixels')
    return PseudoLabels((height, width), labels, scores, bboxes.reshape(-1, 4), masks)
