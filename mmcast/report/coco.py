"""Compare instances with annotations, with pycocotools: for all, and for each image."""

import contextlib
import functools
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmcast.datasets import coco_file
from mmcast.datasets.pseudo_label_store import PseudoLabels

SIZES = {'small': '< 32²', 'medium': '32² to 96²', 'large': '> 96²'}
# COCO's AP does not count more instances of a class in an image.
MOST = 100


@dataclass(frozen=True)
class Matches:
    """Instances that found an object of their class, at an IoU of 0.5, or did not.

    Attributes:
        scores: Confidence of each instance, float, in descending order, shape (n,).
        hits: Whether it found an object that no better one found, bool (n,).
        images: Its image's id (n,).
        objects: Number of annotated objects by image id, crowds not counted.
    """

    scores: np.ndarray
    hits: np.ndarray
    images: np.ndarray
    objects: dict[int, int]

    def curve(self, thresholds: np.ndarray) -> tuple[list, np.ndarray, np.ndarray]:
        """Return how many instances have at least a score, their precision and recall.

        The precision is NaN where there are none.
        """
        made = np.array([(self.scores >= t).sum() for t in thresholds])
        right = np.array([0, *np.cumsum(self.hits)])[made]
        with np.errstate(invalid='ignore', divide='ignore'):
            return made.tolist(), right / made, right / sum(self.objects.values())

    def best_threshold(self) -> float:
        """Return the score with the best F1; 0.5 without any right instance."""
        if not self.hits.any():
            return 0.5
        right, made = np.cumsum(self.hits), np.arange(1, len(self.hits) + 1)
        best = np.argmax(2 * right / (made + sum(self.objects.values())))
        # Rounded down, so that the instance itself stays.
        return float(np.floor(self.scores[best] * 100) / 100)

    def by_image(self, threshold: float) -> dict[int, tuple[int, int, int]]:
        """Return each image's objects, those found, and the wrong instances."""
        used = self.scores >= threshold
        counts = {image: [objects, 0, 0] for image, objects in self.objects.items()}
        for image, hit in zip(self.images[used], self.hits[used], strict=True):
            counts[int(image)][1 if hit else 2] += 1
        return {image: (n, found, wrong) for image, (n, found, wrong) in counts.items()}


@dataclass(frozen=True)
class Quality:
    """How good a model is.

    Attributes:
        by_class: AP (0 to 100) of each class with annotated objects.
        by_size: The same by size.
        matches: Each instance, at an IoU of 0.5.
    """

    by_class: dict[str, float]
    by_size: dict[str, float]
    matches: Matches


@functools.cache
def read_coco(path: Path, folder: Path | None = None) -> COCO:
    """Read an annotation file as training does; once, since models share files.

    ``image_ids`` and ``category_ids`` of the result have the id of each image and
    category by that of the file, which may be text.

    Args:
        path: The file.
        folder: The image folder; names are made to fit it.

    Raises:
        ValueError: The file is refused.
    """
    found = coco_file.read_coco(path, folder)
    content = json.loads(path.read_bytes())
    new = {each['name']: each['id'] for each in found.categories}
    truth = _as_coco(found.images, found.categories, found.annotations)
    truth.category_ids = {
        each['id']: new[each['name']] for each in content['categories']
    }
    truth.image_ids = {
        each['id']: image['id']
        for each, image in zip(content['images'], found.images, strict=True)
    }
    return truth


def read_predictions(path: Path, truth: COCO) -> list[dict[str, Any]]:
    """Read COCO results of masks, with the ids of `read_coco`.

    Raises:
        ValueError: They are not whole, or not of the annotated images and classes.
    """
    images, categories = truth.image_ids, truth.category_ids
    try:
        found = json.loads(path.read_bytes())
        strange = [
            each
            for each in found
            if each['image_id'] not in images or each['category_id'] not in categories
        ]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'{path} is no COCO result: run `mim test` again') from None
    if strange:
        raise ValueError(
            f'{path} has images or classes that its annotations lack (image '
            f'{strange[0]["image_id"]!r}, class {strange[0]["category_id"]!r}): run '
            '`mim test` again'
        )
    # As in mmdet's CocoMetric: with a box, pycocotools would take its size.
    return [
        {k: v for k, v in each.items() if k != 'bbox'}
        | dict(
            image_id=images[each['image_id']],
            category_id=categories[each['category_id']],
        )
        for each in found
    ]


def category_ids(truth: COCO, classes: Sequence[str] | None) -> list[int]:
    """Return the categories to evaluate: those of the model, in the file's order."""
    return [
        each['id']
        for each in truth.loadCats(sorted(truth.getCatIds()))
        if classes is None or each['name'] in classes
    ]


def measure(truth: COCO, found: list[dict], categories: Sequence[int]) -> Quality:
    """Evaluate instances as CocoMetric does.

    Args:
        truth: The annotations.
        found: COCO results of masks.
        categories: Ids of the categories that count.
    """
    evaluated = _evaluate(truth, found, categories)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluated.accumulate()
    # IoU thresholds, recalls, classes, sizes (all first), numbers of instances.
    precision = evaluated.eval['precision'][..., -1]
    names = [each['name'] for each in truth.loadCats(list(categories))]
    return Quality(
        _named(names, [precision[:, :, k, 0] for k in range(len(names))]),
        _named(SIZES, [precision[:, :, :, 1 + k] for k in range(len(SIZES))]),
        _matches(evaluated),
    )


def match(
    truth: COCO,
    found: list[dict],
    categories: Sequence[int],
    images: Iterable[int] | None = None,
) -> Matches:
    """Match instances to annotated objects at an IoU of 0.5; faster than `measure`.

    Args:
        truth: The annotations.
        found: COCO results of masks.
        categories: Ids of the categories that count.
        images: Ids of the images that count; None for all.
    """
    return _matches(_evaluate(truth, found, categories, images, fast=True))


def as_results(
    labels: PseudoLabels, image: int, categories: Sequence[int]
) -> list[dict]:
    """Return the pseudo-labels of one image as COCO results."""
    return [
        dict(
            image_id=image,
            category_id=categories[label],
            score=float(score),
            segmentation=mask,
        )
        for label, score, mask in zip(
            labels.labels, labels.scores, labels.masks, strict=True
        )
    ]


def as_truth(truth: COCO, found: list[dict], threshold: float) -> COCO:
    """Return the instances with at least a score as annotations of the same images."""
    kept = [each for each in found if each['score'] >= threshold]
    return _as_coco(
        truth.dataset['images'],
        truth.dataset['categories'],
        [
            dict(
                each, id=i, iscrowd=0, area=float(mask_utils.area(each['segmentation']))
            )
            for i, each in enumerate(kept, 1)
        ],
    )


def _as_coco(images: list, categories: list, annotations: list) -> COCO:
    coco = COCO()
    coco.dataset = dict(images=images, categories=categories, annotations=annotations)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _evaluate(
    truth: COCO,
    found: list[dict],
    categories: Sequence[int],
    images: Iterable[int] | None = None,
    fast: bool = False,
) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        # loadRes needs an instance.
        results = truth.loadRes([dict(each) for each in found]) if found else COCO()
        evaluated = COCOeval(truth, results, 'segm')
        evaluated.params.catIds = list(categories)
        evaluated.params.imgIds = sorted(
            truth.getImgIds() if images is None else images
        )
        if fast:
            evaluated.params.iouThrs = np.array([0.5])
            evaluated.params.areaRng = evaluated.params.areaRng[:1]
            evaluated.params.maxDets = [MOST]
        evaluated.evaluate()
    return evaluated


def _matches(evaluated: COCOeval) -> Matches:
    """Collect what `evaluate` found at the first IoU, for objects of all sizes."""
    per_class = len(evaluated.params.areaRng) * len(evaluated.params.imgIds)
    objects = dict.fromkeys(evaluated.params.imgIds, 0)
    scores, hits, images = [], [], []
    for k in range(len(evaluated.params.catIds)):
        first = k * per_class
        for each in evaluated.evalImgs[first : first + len(objects)]:
            if each is None:
                continue
            objects[each['image_id']] += int((np.array(each['gtIgnore']) == 0).sum())
            counts = ~each['dtIgnore'][0].astype(bool)
            scores += np.array(each['dtScores'])[counts].tolist()
            hits += (each['dtMatches'][0] > 0)[counts].tolist()
            images += [each['image_id']] * int(counts.sum())
    order = np.argsort(-np.array(scores), kind='stable')
    return Matches(
        np.array(scores, float)[order],
        np.array(hits, bool)[order],
        np.array(images, int)[order],
        objects,
    )


def _named(names: Iterable[str], precisions: list[np.ndarray]) -> dict[str, float]:
    """Return the mean of each one's precisions; without objects there are none."""
    return {
        name: 100 * float(valid.mean())
        for name, precision in zip(names, precisions, strict=True)
        if (valid := precision[precision > -1]).size
    }
