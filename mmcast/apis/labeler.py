"""A teacher as a function of a batch of images.

It needs no process group, writes no file and keeps no state between calls, so that any
engine can run it: a loop, a pool of processes, Ray Data's ``map_batches``.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.utils import get_test_pipeline_cfg
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from torch import Tensor, nn

from mmcast.apis.load_model import device_of, load_model
from mmcast.apis.merged_views import (
    Instances,
    Turn,
    Views,
    kind_of,
    merge,
    view_pipeline,
)
from mmcast.datasets.mask_encoding import encode
from mmcast.datasets.transforms.images import UnreadableImageError

# Masks of larger images are taken at a half, a third, ... of the height and width.
_MOST_PIXELS = 1 << 22


class Row(NamedTuple):
    """What a teacher found in one image.

    Attributes:
        size: Image height and width in pixels; (0, 0) if it cannot be read.
        instances: Labels, scores, boxes, masks; none after an error. Arguments of
            ``PseudoLabelStore.write`` are ``name, size, *instances``.
        error: Why there are none: the image cannot be read, or the teacher failed.
    """

    size: tuple[int, int]
    instances: Instances
    error: Exception | None = None


_NOTHING = Instances([], [], [], [])


class ViewLoader:
    """Reads an image and prepares what a teacher sees of it.

    Args:
        pipelines: One for each view; the first transform loads the image.
    """

    def __init__(self, pipelines: Sequence[Compose]) -> None:
        self.pipelines = pipelines

    def __call__(
        self, image: str | Path | bytes | np.ndarray, **info: Any
    ) -> list[dict[str, Any]] | str:
        """Return what mmdet's ``PackDetInputs`` packs for each view.

        Args:
            image: Its file, what is in it, or BGR uint8, shape (H, W, 3).
            **info: Further keys for the transforms, as ``img_id``.

        Returns:
            The views; or, if the image cannot be read, path and reason.
        """
        found = []
        for pipeline in self.pipelines:
            results: Any = {'img_id': 0, **info}
            transforms = pipeline.transforms
            try:
                if isinstance(image, np.ndarray):
                    results |= dict(img=image, img_path=None)
                    results['img_shape'] = results['ori_shape'] = image.shape[:2]
                    transforms = transforms[1:]
                elif isinstance(image, bytes):
                    results |= dict(img_bytes=image, img_path=info['img_name'])
                else:
                    results['img_path'] = str(image)
                for transform in transforms:
                    results = transform(results)
            except UnreadableImageError as error:
                return error.brief
            except cv2.error as error:  # as for an image that shrinks to no pixel
                return f'{results["img_path"]} ({" ".join(str(error).split())})'
            _limit(results['data_samples'])
            found.append(results)
        return found


class Labeler:
    """Labels batches of images; can be pickled.

    Args:
        teacher: A detector that predicts masks, with ``cfg`` and ``dataset_meta``; or
            its config and checkpoint. These are loaded by the first call, in the
            process that makes it, and pickled as two names.
        min_score: Lowest score that is kept.
        max_instances: Most instances that are kept per image.
        views: What the teacher sees of an image; None for the image as it is.
        device: Where a teacher of two files goes; None for a GPU if there is one.

    Example:
        >>> rows = Labeler(('teacher.py', 'teacher.pth'))(['a.png', 'b.png'])
        >>> store.write('a.png', rows[0].size, *rows[0].instances)
    """

    def __init__(
        self,
        teacher: nn.Module | tuple[str | Path, str | Path],
        *,
        min_score: float = 0.05,
        max_instances: int = 100,
        views: Views | None = None,
        device: str | None = None,
    ) -> None:
        self.teacher = teacher
        self.min_score = min_score
        self.max_instances = max_instances
        self.views = views or Views()
        self.device = device
        self._model: Any = None
        self._turns: list[Turn] = []
        self._loader: ViewLoader | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {'_model': None, '_loader': None}

    @property
    def model(self) -> Any:
        """The detector in evaluation mode; of two files it is loaded now."""
        if self._model is None:
            if isinstance(self.teacher, nn.Module):
                self._model = self.teacher
            else:
                self._model = load_model(*self.teacher, device_of(self.device))
            self._model.eval()
            classes = self._model.dataset_meta['classes']
            self._turns = self.views.turns(classes)
        return self._model

    def __call__(self, images: Sequence[str | Path | np.ndarray]) -> list[Row]:
        """Label a batch.

        Args:
            images: Files, or images as BGR uint8, shape (H, W, 3).

        Returns:
            A row for each image, in their order. An image that cannot be read, or that
            the teacher fails on, has an ``error``.

        Raises:
            RuntimeError: There is not enough memory for the batch, or the GPU failed.
            ValueError: The teacher predicts no masks.
        """
        if self._loader is None:
            self._loader = self.loader()
        names = [
            f'image {i}' if isinstance(image, np.ndarray) else str(image)
            for i, image in enumerate(images)
        ]
        loaded = [
            self._loader(image, img_name=name)
            for name, image in zip(names, images, strict=True)
        ]
        good = [
            (name, item)
            for name, item in zip(names, loaded, strict=True)
            if not isinstance(item, str)
        ]
        rows = iter(self.predict(good) if good else [])
        return [
            Row((0, 0), _NOTHING, UnreadableImageError(item))
            if isinstance(item, str)
            else next(rows)
            for item in loaded
        ]

    def loader(self) -> ViewLoader:
        """Return what loads images for :meth:`predict`, also in other processes."""
        return ViewLoader(
            [_test_pipeline(self.model, *view) for view in self.views.all()]
        )

    @torch.no_grad()
    def predict(self, batch: Sequence[tuple[str, list[dict[str, Any]]]]) -> list[Row]:
        """Label images that are loaded: names for messages, and their views.

        If the teacher fails on a batch, each image is tried alone.

        Raises:
            RuntimeError: There is not enough memory for the batch, or the GPU failed.
            ValueError: The teacher predicts no masks.
        """
        model = self.model
        found: list[list[Instances]] = []
        for view, turn in enumerate(self._turns):
            items = [(name, items[view]) for name, items in batch]
            try:
                samples = model.test_step(
                    {
                        'inputs': [item['inputs'] for _, item in items],
                        'data_samples': [item['data_samples'] for _, item in items],
                    }
                )
            except (
                ArithmeticError,
                IndexError,
                MemoryError,
                RuntimeError,
                ValueError,
            ) as error:
                _raise_if_fatal(error, items)
                if len(batch) > 1:
                    return [row for each in batch for row in self.predict([each])]
                print_log(
                    f'The teacher failed on {_sizes(items)}, which has no labels: '
                    f'{type(error).__name__}: {error}',
                    logger='current',
                    level=logging.WARNING,
                )
                ((_, item),) = items
                return [Row(_full_size(item['data_samples']), _NOTHING, error)]
            try:
                found.append([_instances(self, turn(sample)) for sample in samples])
            except (MemoryError, RuntimeError) as error:
                # A GPU reports an error of test_step as late as here.
                _raise_if_fatal(error, items)
                raise
        rows = []
        for (_, items), *seen in zip(batch, *found, strict=True):
            instances = seen[0] if len(seen) == 1 else merge(seen)
            kept = instances.best(self.max_instances, self.min_score)
            rows.append(Row(_full_size(items[0]['data_samples']), kept))
        return rows


def _limit(sample: Any) -> None:
    """Let the model give masks of a part of the image's size if it is very large.

    Masks of 100 objects in an image of 33 megapixels take 3.4 GB, while the network saw
    a hundredth of the pixels.
    """
    height, width = sample.ori_shape[:2]
    times = math.ceil(math.sqrt(height * width / _MOST_PIXELS))
    # Grounding-DINO with SAM 2 takes the masks from the image itself, `image`.
    if times > 1 and 'image' not in sample:
        x, y = sample.get('scale_factor', (1.0, 1.0))
        sample.set_metainfo(
            dict(
                times=times,
                full_shape=(height, width),
                ori_shape=(-(-height // times), -(-width // times)),
                scale_factor=(x * times, y * times),
            )
        )


def _test_pipeline(model: nn.Module, scale: float, flip: bool) -> Compose:
    """Build a view's test pipeline from the model's, without annotation loading.

    ``LoadImage`` replaces mmcv's, to tell an unreadable image from a bug.
    """
    cfg: Any = model.cfg
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    transforms = [
        {**transform, 'type': 'mmdet.LoadImage'}
        if kind_of(transform).endswith('LoadImageFromFile')
        else transform
        for transform in get_test_pipeline_cfg(cfg)
        if not kind_of(transform).endswith('Annotations')
    ]
    return Compose(view_pipeline(transforms, scale, flip))


def _full_size(sample: Any) -> tuple[int, int]:
    return sample.get('full_shape', sample.ori_shape[:2])


def _boxes(boxes: list[list[float]], masks: list[dict[str, Any]]) -> list[list[float]]:
    """Return the boxes, and a mask's own in place of an empty one, as SOLO's are."""
    for index, (left, top, right, bottom) in enumerate(boxes):
        if right <= left or bottom <= top:
            x, y, width, height = mask_utils.toBbox(masks[index]).tolist()
            boxes[index] = [x, y, x + width, y + height]
    return boxes


def _raise_if_fatal(error: Exception, batch: list[tuple[str, dict[str, Any]]]) -> None:
    """Raise a RuntimeError with a remedy if the next image would fail, too."""
    if is_out_of_memory(error):
        raise RuntimeError(
            f'the teacher ran out of memory at {_sizes(batch)}: lower its batch_size '
            'or the size in its test pipeline, then start again; what is labelled is '
            'kept'
        ) from error
    if _is_of_device(error):
        reason = str(error).partition('\n')[0]  # advice for developers follows
        raise RuntimeError(
            f'the GPU failed at {_sizes(batch)}: {reason}. What is labelled is kept, '
            'and the same command continues; if it stops here again, leave this image '
            'out'
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Say whether there was not enough memory, of a GPU or a CPU."""
    # On a CPU torch raises a plain RuntimeError.
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    texts = ("can't allocate memory", 'CUDA error: out of memory')
    return isinstance(error, kinds) or any(text in str(error) for text in texts)


def _is_of_device(error: Exception) -> bool:
    """Say whether a GPU failed: then this process cannot use it any more."""
    # Older torch has no class for it.
    kind = getattr(torch, 'AcceleratorError', ())
    return isinstance(error, kind) or 'CUDA error' in str(error)


def _sizes(batch: list[tuple[str, dict[str, Any]]]) -> str:
    """Name each image of a batch, with its size and the size that the model sees."""
    texts = []
    for name, item in batch:
        height, width = _full_size(item['data_samples'])
        seen = 'x'.join(map(str, item['inputs'].shape[-2:]))
        texts.append(f'{name} ({height}x{width} pixels, seen at {seen})')
    return ', '.join(texts)


def _instances(limits: Any, sample: Any) -> Instances:
    """Return one image's predictions that are kept, encoded one by one.

    Args:
        limits: Has ``min_score`` and ``max_instances``.
        sample: mmdet's data sample with predictions.
    """
    predicted = sample.pred_instances
    scores: Tensor = predicted.scores
    order = torch.argsort(scores, descending=True, stable=True)[: limits.max_instances]
    order = order[scores[order] >= limits.min_score]
    size, times = _full_size(sample), sample.get('times', 1)
    masks = [encode(predicted.masks[index], times, size) for index in order.tolist()]
    return Instances(
        predicted.labels[order].tolist(),
        scores[order].tolist(),
        _boxes((times * predicted.bboxes[order]).tolist(), masks),
        masks,
        *(
            predicted[key][order].tolist() if key in predicted else None
            for key in ('class_scores', 'mask_qualities')
        ),
    )
