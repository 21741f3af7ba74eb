"""How long a stage is, and how large it sees the images, from its config."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.config import Config


class StageLength(NamedTuple):
    """Length of a training.

    Attributes:
        iterations: All of them.
        batch: Images of an iteration, on one device.
        passes: How often each labelled image is seen.
    """

    iterations: int
    batch: int
    passes: float


def stage_length(cfg: Config, labeled: int, unlabeled: int) -> StageLength:
    """Compute the length of a stage.

    Args:
        cfg: Its config; it counts iterations or epochs.
        labeled: Number of labelled images.
        unlabeled: Number of unlabelled images.
    """
    batch, dataset = cfg.train_dataloader.batch_size, cfg.train_dataloader.dataset
    share = 1.0
    if 'student' in cfg.model:
        first, second = cfg.train_dataloader.sampler.get('source_ratio', (1, 1))
        share = first / (first + second)
    iterations = cfg.train_cfg.get('max_iters')
    if iterations is None:
        images, node = labeled, dataset.get('labeled_dataset', dataset)
        while node is not None:
            images *= node.get('times', 1)
            node = node.get('dataset')
        if 'student' in cfg.model:
            images += unlabeled
        iterations = cfg.train_cfg.max_epochs * math.ceil(images / batch)
    return StageLength(iterations, batch, iterations * batch * share / labeled)


def seen_sizes(
    cfg: Config, size: Sequence[int]
) -> tuple[list[float], list[list[float]]]:
    """Compute how large an image is for the model.

    Args:
        cfg: A stage's config.
        size: (width, height) of the image.

    Returns:
        (width, height) in testing, and smallest and largest one in training. A list is
        empty if the pipeline does not say: it does not resize, or joins images.
    """
    test = _scales(_steps(cfg.val_dataloader.dataset))
    train = _scales(_steps(cfg.train_dataloader.dataset))
    return (
        _resized(size, *test[0]) if test else [],
        [_resized(size, *each) for each in (train[0], train[-1])] if train else [],
    )


def _steps(dataset: Mapping[str, Any]) -> list[Any]:
    """List a data set's transforms, those of wrappers last."""
    inside = dataset.get('labeled_dataset') or dataset.get('dataset') or {}
    own = dataset.get('weak_view') or dataset.get('pipeline') or []
    return [*(_steps(inside) if inside else []), *own]


def _scales(steps: Sequence[Any]) -> list[tuple[tuple[float, float], bool]]:
    """Return the smallest and the largest scale of the transform that resizes.

    With each, whether images keep their shape.
    """
    flat = list(_flat(steps))
    if any('Mosaic' in step.get('type', '') for step in flat):
        return []
    for step in flat:
        scales = step.get('scales') or step.get('scale')
        if not scales:
            continue
        keeps = _by_shortest_edge(step) or step.get('keep_ratio', False)
        if 'ratio_range' in step:
            return [
                ((scales[0] * r, scales[1] * r), keeps) for r in step['ratio_range']
            ]
        # `scales` are several; `scale` is one, or the two that are drawn between.
        if isinstance(scales, int) or ('scale' in step and isinstance(scales[0], int)):
            scales = [scales]
        every = sorted((_pair(each, step) for each in scales), key=min)
        return [(every[0], keeps), (every[-1], keeps)]
    return []


def _by_shortest_edge(step: Mapping[str, Any]) -> bool:
    return 'ResizeShortestEdge' in step['type'] + step.get('resize_type', '')


def _pair(scale: Any, step: Mapping[str, Any]) -> tuple[float, float]:
    """Return a scale as the sides that an image has to fit into."""
    sides = (scale, scale) if isinstance(scale, int) else tuple(scale)
    if _by_shortest_edge(step):
        return min(sides), step.get('max_size') or math.inf
    return sides


def _flat(steps: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    for step in steps:
        if isinstance(step, Mapping):
            yield step
            yield from _flat(step.get('transforms', []))
        else:
            yield from _flat(step)


def _resized(size: Sequence[int], scale: Sequence[float], keeps: bool) -> list[float]:
    """Return a size (width, height) after mmcv's Resize; `keeps` is ``keep_ratio``."""
    if not keeps:
        return [*scale]
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return [factor * side for side in size]
