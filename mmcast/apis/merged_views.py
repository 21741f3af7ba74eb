"""Label an image from several views of it: mirrored, and at other scales.

A teacher that sees an image six times costs six times as much and finds more. The
instances of the views are put together: those of one class whose masks overlap are one
instance, its score is the mean over all views (0 where a view misses it), and its mask
is the vote of the views that found it.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools import mask as mask_utils
from torch import Tensor

from mmcast.datasets.mask_encoding import encode
from mmcast.datasets.mirrored import mirror_pairs


class Instances(NamedTuple):
    """What a teacher found in an image, n instances.

    Attributes:
        labels: Class indices, shape (n,).
        scores: Confidences in [0, 1], shape (n,).
        bboxes: Boxes xyxy in pixels, shape (n, 4).
        masks: Compressed COCO RLE dicts.
        class_scores: Class scores in [0, 1], if the teacher has them apart.
        mask_qualities: Mask qualities in [0, 1], if the teacher has them apart.
    """

    labels: Sequence[int]
    scores: Sequence[float]
    bboxes: Sequence[Sequence[float]]
    masks: Sequence[dict[str, Any]]
    class_scores: Sequence[float] | None = None
    mask_qualities: Sequence[float] | None = None

    def best(self, most: int, least: float) -> 'Instances':
        """Return the instances of the ``most`` highest scores that reach ``least``."""
        order = np.argsort(-np.array(self.scores), kind='stable')[:most].tolist()
        kept = [i for i in order if self.scores[i] >= least]
        return Instances(
            [self.labels[i] for i in kept],
            [self.scores[i] for i in kept],
            [self.bboxes[i] for i in kept],
            [self.masks[i] for i in kept],
            *(
                None if each is None else [each[i] for i in kept]
                for each in (self.class_scores, self.mask_qualities)
            ),
        )


Turn = Callable[[Any], Any]
# An instance weighs at least this in means and votes: weights of 0 have no mean.
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Views:
    """The views of an image that a teacher labels.

    Attributes:
        scales: Factors on the size in the teacher's test pipeline.
        flip: Whether each is seen mirrored, too.
    """

    scales: Sequence[float] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        # What `--cfg-options views.scales=1.25` gives is no list.
        given = self.scales if isinstance(self.scales, Sequence) else [self.scales]
        numbers = all(isinstance(scale, int | float) for scale in given)
        if not given or not numbers or not all(0 < scale <= 8 for scale in given):
            raise ValueError(
                f'scales of views are {self.scales!r}: give numbers above 0 and up to '
                '8, as 1 1.25'
            )
        object.__setattr__(self, 'scales', tuple(given))

    def all(self) -> list[tuple[float, bool]]:
        """List scale, and whether it is mirrored, of each view."""
        flips = (False, True) if self.flip else (False,)
        return [(float(scale), flip) for scale in self.scales for flip in flips]

    def names(self) -> list[str]:
        """Name each view for a store's manifest."""
        return [f'{scale:g}{" mirrored" * flip}' for scale, flip in self.all()]

    def turns(self, classes: Sequence[str]) -> list[Turn]:
        """Return, for each view, what checks its predictions and turns them back.

        Args:
            classes: Class names; a mirrored left one is a right one.

        Raises:
            ValueError: A class says left or right and has no partner.
        """
        pairs = mirror_pairs(classes) if self.flip else []
        if pairs is None:
            raise ValueError(
                'a class says left or right and has no partner, so a mirrored image '
                'has other classes: label without mirrored views'
            )
        names = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
        others = torch.tensor(
            [classes.index(names.get(name, name)) for name in classes]
        )
        back = functools.partial(_turned_back, others)
        return [back if flip else _checked for _, flip in self.all()]


def _checked(sample: Any) -> Any:
    if 'masks' not in sample.pred_instances:
        raise ValueError(
            'The teacher predicts no masks: use an instance segmentation model, and '
            'for Mask2Former test_cfg=dict(instance_on=True).'
        )
    return sample


def _turned_back(others: Tensor, sample: Any) -> Any:
    predicted = _checked(sample).pred_instances
    predicted.labels = others.to(predicted.labels.device)[predicted.labels]
    boxes = predicted.bboxes.clone()
    boxes[:, [0, 2]] = sample.ori_shape[1] - boxes[:, [2, 0]]
    predicted.bboxes = boxes
    predicted.masks = predicted.masks.flip(-1)
    return sample


def view_pipeline(transforms: Sequence[Any], scale: float, flip: bool) -> list[Any]:
    """Change a test pipeline so that it shows a view of the image.

    The image is mirrored as soon as it is loaded, so a teacher needs to know nothing of
    it: what it finds is mirrored, too.

    Args:
        transforms: Configs of the transforms; the first one loads the image.
        scale: Factor on the size.
        flip: Whether to mirror.
    """
    first, *rest = copy.deepcopy([*transforms])
    if scale != 1:
        resized = [_enlarge(each, scale) for each in rest]
        if not any(resized):
            # A segmenter that takes the loaded image gets it as it is.
            place = 1 if 'KeepImage' in str(rest[:1]) else 0
            rest.insert(place, dict(type='Resize', scale_factor=scale))
    return [first, *([mirror_image] if flip else []), *rest]


def kind_of(transform: dict[str, Any]) -> str:
    """Return the name of a transform's type, which a config may give as a class."""
    kind = transform['type']
    return kind if isinstance(kind, str) else kind.__name__


def _enlarge(transform: Any, scale: float) -> bool:
    """Multiply the sizes of a transform; return whether it resizes."""
    if not isinstance(transform, dict):
        return False
    kind = kind_of(transform)
    if kind.endswith('Pad') and transform.get('size'):
        transform['size'] = _times(transform['size'], scale)
    if 'Resize' not in kind:
        return False
    for key in ('scale', 'scales', 'scale_factor', 'max_size'):
        if transform.get(key):
            transform[key] = _times(transform[key], scale)
    return True


def _times(value: Any, scale: float) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_times(each, scale) for each in value)
    return round(value * scale) if isinstance(value, int) else value * scale


def mirror_image(results: dict[str, Any]) -> dict[str, Any]:
    """Mirror the image of a pipeline's sample."""
    results['img'] = np.ascontiguousarray(results['img'][:, ::-1])
    return results


def merge(views: Sequence[Instances], iou_thr: float = 0.5) -> Instances:
    """Put the instances of several views of one image together.

    In descending score, an instance takes from each other view the one of its class
    with the largest mask IoU, if that is at least ``iou_thr``. The score is the sum of
    theirs over the number of views, and so is the class score. A pixel belongs to the
    mask if instances with half of the scores' sum or more have it. Box and mask quality
    are means of theirs by score.

    Args:
        views: What was found in each view, in the coordinates of the image itself.
        iou_thr: Least mask IoU of instances that are one.
    """
    labels = np.array([label for each in views for label in each.labels], np.int64)
    scores = np.array([score for each in views for score in each.scores])
    weights = scores.clip(_LEAST_WEIGHT)
    boxes = np.array([box for each in views for box in each.bboxes]).reshape(-1, 4)
    masks = [mask for each in views for mask in each.masks]
    view = np.repeat(np.arange(len(views)), [len(each.labels) for each in views])
    groups = [
        group
        for label in np.unique(labels)
        for group in _groups(
            np.flatnonzero(labels == label), scores, view, masks, iou_thr
        )
    ]

    def summed(values: np.ndarray) -> list[float]:
        return [float(values[group].sum() / len(views)) for group in groups]

    def mean(values: np.ndarray) -> list[Any]:
        return [
            np.average(values[group], axis=0, weights=weights[group]).tolist()
            for group in groups
        ]

    class_scores = _of_all([each.class_scores for each in views])
    qualities = _of_all([each.mask_qualities for each in views])
    return Instances(
        [int(labels[group[0]]) for group in groups],
        summed(scores),
        mean(boxes),
        [_vote([masks[i] for i in group], weights[group]) for group in groups],
        None if class_scores is None else summed(class_scores),
        None if qualities is None else mean(qualities),
    )


def _of_all(views: Sequence[Sequence[float] | None]) -> np.ndarray | None:
    """Join the views' values; None if a view has none."""
    given = [each for each in views if each is not None]
    if len(given) < len(views):
        return None
    return np.array([value for each in given for value in each])


def _groups(
    members: np.ndarray,
    scores: np.ndarray,
    view: np.ndarray,
    masks: Sequence[dict[str, Any]],
    iou_thr: float,
) -> Iterator[np.ndarray]:
    """Yield which instances of a class are one: at most one of each view."""
    members = members[np.argsort(-scores[members], kind='stable')]
    of_class = [masks[i] for i in members]
    ious = mask_utils.iou(of_class, of_class, [0] * len(of_class))
    free = np.ones(len(members), bool)
    for first in range(len(members)):
        if not free[first]:
            continue
        group = [first]
        for other in np.unique(view[members]):
            near = ious[first] * (free & (view[members] == other))
            if other != view[members[first]] and near.max() >= iou_thr:
                group.append(int(near.argmax()))
        free[group] = False
        yield members[group]


def _vote(masks: Sequence[dict[str, Any]], weights: np.ndarray) -> dict[str, Any]:
    """Return the pixels that masks with half of all weights or more have."""
    if len(masks) == 1:
        return masks[0]
    total = np.zeros(masks[0]['size'], np.float32)
    for mask, weight in zip(masks, weights, strict=True):
        total += mask_utils.decode(mask) * np.float32(weight)
    # Not `>=` alone: sums of float32 are rounded.
    return encode(torch.from_numpy(total >= (0.5 - 1e-6) * weights.sum()))
