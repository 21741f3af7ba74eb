"""Flips for classes named left and right, whose meaning a flip swaps."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import RandomFlip as MMCVRandomFlip
from mmdet.datasets.transforms import RandomFlip
from mmdet.registry import TRANSFORMS

# A turn by 180 degrees, 'diagonal', does not change left and right of an object.
_MIRRORING = ('horizontal', 'vertical')


@TRANSFORMS.register_module()
class RandomFlipSwapLabels(RandomFlip):
    """mmdet's ``RandomFlip`` that also swaps labels, as of left and right eye.

    A mirrored left eye is a right eye. Labels are swapped by a horizontal and by a
    vertical flip. A diagonal flip turns the image by 180 degrees and leaves them, as in
    MMPose.

    Required and modified keys are those of ``RandomFlip``, and ``gt_bboxes_labels``
    (int64, n).

    Args:
        label_pairs: Pairs of labels that swap; other labels stay.
        kwargs: As mmdet's ``RandomFlip``.

    Raises:
        ValueError: A label is in two pairs.
    """

    def __init__(self, label_pairs: Sequence[Sequence[int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.swapped = _swapped(label_pairs)

    def _flip(self, results: dict[str, Any]) -> None:
        super()._flip(results)
        labels = results.get('gt_bboxes_labels')
        if labels is not None and results['flip_direction'] in _MIRRORING:
            new = [self.swapped.get(int(label), int(label)) for label in labels]
            results['gt_bboxes_labels'] = np.array(new, labels.dtype)


def _swapped(label_pairs: Sequence[Sequence[int]]) -> dict[int, int]:
    ways = [each for a, b in label_pairs for each in ((a, b), (b, a))]
    swapped = dict(ways)
    if len(swapped) != len(ways):
        raise ValueError(
            f'label_pairs={list(label_pairs)} has a label twice: give each label one '
            'partner'
        )
    return swapped


def mirror_aware(steps: Sequence[Any], metainfo: Mapping[str, Any]) -> list[Any]:
    """Make the flips of a pipeline fit a data set's classes.

    A data set whose ``metainfo`` has ``mirrored`` has classes named left and right. It
    is a list of pairs of class names that a flip swaps; None if images must not be
    flipped.

    Args:
        steps: The transforms, built; those inside other transforms change in place.
        metainfo: The data set's; without ``mirrored`` the transforms stay.

    Returns:
        The transforms. MixUp's own flip, which swaps no labels, is off.

    Raises:
        ValueError: ``mirrored`` names something that is no class.
    """
    if 'mirrored' not in metainfo:
        return list(steps)
    pairs, classes = metainfo['mirrored'], list(metainfo['classes'])
    unknown = [name for pair in pairs or () for name in pair if name not in classes]
    if unknown:
        raise ValueError(
            f'metainfo.mirrored names {unknown[0]!r}, which is no class: give pairs of '
            f'{classes}'
        )
    if pairs is not None:
        pairs = [[classes.index(name) for name in pair] for pair in pairs]
    return [_mirror_aware(step, pairs) for step in steps]


def _mirror_aware(step: Any, pairs: list[list[int]] | None) -> Any:
    if isinstance(step, MMCVRandomFlip):
        step = copy.copy(step)
        if pairs is None:
            step.prob = [0.0] * len(step.prob) if isinstance(step.prob, list) else 0.0
            return step
        swapping = RandomFlipSwapLabels(pairs, prob=0.0)
        swapping.__dict__.update(step.__dict__)
        return swapping
    if hasattr(step, 'flip_ratio'):
        # MixUp and CachedMixUp flip if a number between 0 and 1 is greater than this.
        step = copy.copy(step)
        step.flip_ratio = 1.0
    inside = getattr(step, 'transforms', None)  # Compose, RandomChoice, RandomApply
    if isinstance(inside, list | tuple):
        step.transforms = [_mirror_aware(each, pairs) for each in inside]
    elif inside is not None:
        step.transforms = _mirror_aware(inside, pairs)
    return step
