"""The pseudo-labels of one image, and their JSON form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmcast.datasets.rle import MOST_PIXELS, is_size, is_whole

# What a score may be made of. Stores of teachers that have one number lack them.
PARTS = ('class_score', 'mask_quality')


@dataclass(frozen=True)
class PseudoLabels:
    """The labels of one image, n instances in descending score.

    Attributes:
        size: Image height and width in pixels.
        labels: Class indices, int64, shape (n,).
        scores: Confidences in [0, 1], float32, shape (n,). They rank the instances.
        bboxes: Boxes xyxy in pixels, float32, shape (n, 4).
        masks: Compressed COCO RLE dicts with ``size`` and ``counts`` (str).
        class_scores: How sure the teacher is of the class, in [0, 1], float32, shape
            (n,); None if it did not say so for each instance.
        mask_qualities: How good the teacher thinks the mask is, as the other one.
    """

    size: tuple[int, int]
    labels: np.ndarray
    scores: np.ndarray
    bboxes: np.ndarray
    masks: list[dict[str, Any]]
    class_scores: np.ndarray | None = None
    mask_qualities: np.ndarray | None = None


def format_entry(
    name: str,
    size: tuple[int, int],
    labels: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    bboxes: Sequence[Sequence[float]] | np.ndarray,
    masks_rle: Sequence[dict[str, Any]],
    class_scores: Sequence[float] | np.ndarray | None = None,
    mask_qualities: Sequence[float] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Make the JSON of one image's labels, sorted by score.

    Args:
        name: The image's path relative to the image root.
        size: Image height and width in pixels.
        labels: Class indices, shape (n,).
        scores: Confidences in [0, 1], shape (n,).
        bboxes: Boxes xyxy in pixels, shape (n, 4).
        masks_rle: n compressed COCO RLE dicts (``counts`` bytes or str).
        class_scores: In [0, 1], shape (n,); None if the teacher has none.
        mask_qualities: In [0, 1], shape (n,); None if the teacher has none.

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
    for key, values in zip(PARTS, (class_scores, mask_qualities), strict=True):
        if values is not None:
            for instance, value in zip(instances, values, strict=True):
                instance[key] = round(float(value), 6)
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
        ValueError: It is no entry, or belongs to another image.
    """
    if not isinstance(entry, dict):
        raise ValueError('it is no JSON object')
    if entry.get('image') != name:
        raise ValueError(f'it belongs to image {str(entry.get("image"))[:100]!r}')
    size: Any = entry.get('size')
    if not is_size(size):
        raise ValueError('its size is not a height and a width in pixels')
    instances = entry.get('instances')
    if not isinstance(instances, list) or not all(
        isinstance(instance, dict) for instance in instances
    ):
        raise ValueError('its instances are no list of objects')
    labels, scores, bboxes, masks = (
        [instance.get(key) for instance in instances]
        for key in ('label', 'score', 'bbox', 'segmentation')
    )
    if not all(type(label) is int and 0 <= label < num_classes for label in labels):
        raise ValueError(f'a label is outside the {num_classes} classes')
    if not all(_is_between(score, 0, 1) for score in scores):
        raise ValueError('a score is outside [0, 1]')
    if scores != sorted(scores, reverse=True):
        raise ValueError('the scores are not in descending order')
    parts = [_part(instances, key) for key in PARTS]
    if not all(
        isinstance(box, list)
        and len(box) == 4
        and all(_is_between(number, -MOST_PIXELS, MOST_PIXELS) for number in box)
        for box in bboxes
    ):
        raise ValueError('a box is not four finite numbers')
    for rle in masks:
        if (
            not isinstance(rle, dict)
            or rle.get('size') != size
            or not isinstance(rle.get('counts'), str)
            or not is_whole(rle)
        ):
            raise ValueError(f'a mask does not cover {size[0]}x{size[1]} pixels')
    return PseudoLabels(
        (size[0], size[1]),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
        np.array(bboxes, np.float32).reshape(-1, 4),
        masks,
        *parts,
    )


def _part(instances: list[dict[str, Any]], key: str) -> np.ndarray | None:
    """Return a number of each instance; None if one lacks it."""
    values = [instance.get(key) for instance in instances]
    if not all(value is None or _is_between(value, 0, 1) for value in values):
        raise ValueError(f'a {key} is outside [0, 1]')
    return None if None in values else np.array(values, np.float32)


def _is_between(number: Any, low: float, high: float) -> bool:
    return type(number) in (int, float) and low <= number <= high
