"""Label images with a detector: resumable, split over ranks, in constant memory."""

import logging
import math
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import torch
from mmcv.transforms import Compose
from mmengine.dist import all_gather_object, get_dist_info
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmcast.apis.label_summary import LabelSummary, summarise
from mmcast.apis.merged_views import (
    Instances,
    Turn,
    Views,
    merge,
    view_pipeline,
)
from mmcast.apis.ranks import on_rank_zero, raise_on_all_ranks
from mmcast.console import make_console
from mmcast.datasets.mask_encoding import encode
from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.datasets.transforms.images import UnreadableImageError
from mmcast.datasets.workers import end_with_parent

_LOG_SECONDS = 10
# So many failures without a success are not the images' fault.
_MOST_ODD = 10
# Masks of larger images are taken at a half, a third, ... of the height and width.
_MOST_PIXELS = 1 << 22


def label_images(
    model: nn.Module,
    names: Sequence[str],
    img_root: str | Path,
    store: PseudoLabelStore,
    *,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    num_workers: int = 2,
    progress: bool = True,
    score_thr: float = 0.0,
    allowed_unreadable: int = 0,
    views: Views | None = None,
) -> LabelSummary:
    """Write the pseudo-labels of all images that have none in the store yet.

    It can be killed at any time and called again. Under ``torch.distributed`` each rank
    labels its share; every rank returns the same summary. An image that the model fails
    on, as one much longer than wide, is named in a warning and has no instances.

    Args:
        model: Detector with ``cfg`` and ``dataset_meta``, as
            ``mmdet.apis.init_detector`` returns it, that predicts masks.
        names: Image paths relative to ``img_root``.
        img_root: Folder of the images.
        store: The store to write to.
        batch_size: Images per forward pass.
        device: Device to run the model on; None to leave the model where it is.
        num_workers: Processes that read images; 0 for none.
        progress: Whether rank 0 shows a progress bar.
        score_thr: The summary counts instances with a higher score as used.
        allowed_unreadable: So many images may be unreadable; they are named in a
            warning and have no labels.
        views: What the model sees of an image; None for the image as it is. The
            instances of several views are merged (:func:`~mmcast.apis.merge`).

    Raises:
        ValueError: The model's classes are not the store's, it predicts no masks, the
            store holds a damaged file, or more images cannot be read (raised after all
            others are labelled).
    """
    check_classes(model, store)
    views = views or Views()
    store.check(views=views.names())
    turns = views.turns(store.classes)
    if device is not None:
        model.to(device)
    model.eval()

    def plan() -> list[str]:
        store.remove_leftovers()
        return store.missing(names)

    missing = on_rank_zero(plan)
    rank, world = get_dist_info()
    unreadable: list[str] = []
    if missing:
        print_log(
            f'Labelling {len(missing)} of {len(names)} images into {store.root}',
            logger='current',
        )
        is_new = len(missing) == len(names)
        pipelines = [_test_pipeline(model, *each) for each in views.all()]
        images = _Images(missing[rank::world], img_root, pipelines)

        def work() -> list[str]:
            try:
                return _label(
                    *(model, images, store, turns, batch_size, num_workers),
                    progress,
                    is_new,
                )
            finally:
                store.flush()

        unreadable = raise_on_all_ranks(work)
    failed = [line for share in all_gather_object(unreadable) for line in share]
    if len(failed) > allowed_unreadable:
        raise ValueError(
            f'{len(failed)} of {len(names)} images cannot be read: '
            f'{"; ".join(failed[:5])}{"; ..." if len(failed) > 5 else ""}. All others '
            'are labelled: repair these files or take them off the list, and start '
            'again.'
        )
    labeled = names
    if failed:
        print_log(
            f'{len(failed)} of {len(names)} images cannot be read and have no labels: '
            + '; '.join(failed),
            logger='current',
            level=logging.WARNING,
        )
        without = set(store.missing(names))
        labeled = [name for name in names if name not in without]
    summary = on_rank_zero(
        lambda: summarise(
            store, labeled, len(missing) - len(failed), score_thr=score_thr
        )
    )
    print_log(str(summary), logger='current', level=logging.INFO)
    return summary


def check_classes(model: nn.Module, store: PseudoLabelStore) -> None:
    """Raise a ValueError unless the model and the store have the same classes."""
    classes = tuple(model.dataset_meta['classes'])  # type: ignore[index]
    if classes != store.classes:
        raise ValueError(
            f'The teacher has the classes {classes}, but the pseudo-labels in '
            f'{store.root} have {store.classes}: use a teacher with the same classes '
            'in the same order, or point `store` elsewhere.'
        )


class _Images(Dataset):
    """All views of images, by a pipeline each; for an unreadable one, an error text."""

    def __init__(
        self, names: list[str], img_root: str | Path, pipelines: list[Compose]
    ) -> None:
        self.names = names
        self.root = Path(img_root)
        self.pipelines = pipelines

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, list[dict[str, Any]] | str]:
        name = self.names[index]
        path = str(self.root / name)
        item = {'img_path': path, 'img_name': name, 'img_id': index}
        try:
            found = [pipeline(dict(item)) for pipeline in self.pipelines]
        except UnreadableImageError as error:
            return name, error.brief
        except cv2.error as error:  # as for an image that shrinks to no pixel
            return name, f'{path} ({" ".join(str(error).split())})'
        for each in found:
            _limit(each['data_samples'])
        return name, found


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
        if str(transform['type']).endswith('LoadImageFromFile')
        else transform
        for transform in cfg.test_dataloader.dataset.pipeline
        if not str(transform['type']).endswith('Annotations')
    ]
    return Compose(view_pipeline(transforms, scale, flip))


def _start_worker(worker_id: int) -> None:
    # A fork does not copy OpenCV's threads, and the worker would wait for them.
    cv2.setNumThreads(0)
    end_with_parent(worker_id)


@torch.no_grad()
def _label(
    model: nn.Module,
    images: _Images,
    store: PseudoLabelStore,
    turns: Sequence[Turn],
    batch_size: int,
    num_workers: int,
    progress: bool,
    is_new: bool,
) -> list[str]:
    """Label this rank's images; return those that cannot be read, with reasons.

    Raises:
        Exception: The model failed on all of many images, or of a new store.
    """
    loader: DataLoader = DataLoader(
        images,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=_start_worker,
        # A separate generator: the loader must not change training's random state.
        generator=torch.Generator(),
    )
    batches = iter(loader)  # workers must be forked before the bar starts its thread
    unreadable: list[str] = []
    labelled = 0
    odd: list[tuple[Exception, str, tuple[int, int]]] = []
    rank, world = get_dist_info()
    share = '' if world == 1 else f" (rank 0's share, 1 of {world})"
    with Progress(
        TextColumn('Labelling' + share),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=make_console(),
        disable=not progress or rank != 0,
    ) as bar:
        task = bar.add_task('', total=len(images))
        # A log shows no bar, so it gets lines.
        to_log = not (bar.disable or bar.console.is_terminal)
        last = time.monotonic()
        for batch in batches:
            good = [(name, item) for name, item in batch if not isinstance(item, str)]
            unreadable += [item for _, item in batch if isinstance(item, str)]
            if good:
                labelled += _label_batch(model, good, store, turns, odd)
            if len(odd) >= _MOST_ODD and not labelled:
                raise odd[0][0]
            bar.advance(task, len(batch))
            if to_log and time.monotonic() - last > _LOG_SECONDS:
                last = time.monotonic()
                state = bar.tasks[task]
                left = timedelta(seconds=round(state.time_remaining or 0))
                print_log(
                    f'Labelled [{state.completed:.0f}/{len(images)}]{share}  '
                    f'eta: {left}',
                    logger='current',
                )
    if odd and not labelled and is_new:
        raise odd[0][0]
    for _, name, size in odd:
        store.write(name, size, [], [], [], [])
    return unreadable


def _label_batch(
    model: nn.Module,
    batch: list[tuple[str, list[dict[str, Any]]]],
    store: PseudoLabelStore,
    turns: Sequence[Turn],
    odd: list[tuple[Exception, str, tuple[int, int]]],
) -> int:
    """Label a batch; return the number of images that the model did not fail on.

    If it fails, each image is tried alone. One that it fails on is added to ``odd``:
    the error, its name and its size.
    """
    found: list[list[Instances]] = []
    for view, turn in enumerate(turns):
        items = [(name, items[view]) for name, items in batch]
        try:
            samples = model.test_step(  # type: ignore[operator]
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
            if _is_out_of_memory(error):
                raise RuntimeError(
                    f'the teacher ran out of memory at {_sizes(items)}: lower its '
                    'batch_size or the size in its test pipeline, then start again; '
                    'what is labelled is kept'
                ) from error
            if len(batch) > 1:
                return sum(
                    _label_batch(model, [each], store, turns, odd) for each in batch
                )
            print_log(
                f'The teacher failed on {_sizes(items)}, which has no labels: '
                f'{type(error).__name__}: {error}',
                logger='current',
                level=logging.WARNING,
            )
            ((name, item),) = items
            odd.append((error, name, _full_size(item['data_samples'])))
            return 0
        found.append([_instances(store, turn(sample)) for sample in samples])
    for (name, items), *views in zip(batch, *found, strict=True):
        instances = views[0] if len(views) == 1 else merge(views)
        kept = instances.best(store.max_instances, store.min_score)
        store.write(name, _full_size(items[0]['data_samples']), *kept)
    return len(batch)


def _full_size(sample: Any) -> tuple[int, int]:
    return sample.get('full_shape', sample.ori_shape[:2])


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _sizes(batch: list[tuple[str, dict[str, Any]]]) -> str:
    """Name each image of a batch, with its size and the size that the model sees."""
    texts = []
    for name, item in batch:
        height, width = _full_size(item['data_samples'])
        seen = 'x'.join(map(str, item['inputs'].shape[-2:]))
        texts.append(f'{name} ({height}x{width} pixels, seen at {seen})')
    return ', '.join(texts)


def _instances(store: PseudoLabelStore, sample: Any) -> Instances:
    """Return one image's predictions that the store keeps, encoded one by one."""
    predicted = sample.pred_instances
    scores: Tensor = predicted.scores
    order = torch.argsort(scores, descending=True, stable=True)[: store.max_instances]
    order = order[scores[order] >= store.min_score]
    size, times = _full_size(sample), sample.get('times', 1)
    return Instances(
        predicted.labels[order].tolist(),
        scores[order].tolist(),
        (times * predicted.bboxes[order]).tolist(),
        [encode(predicted.masks[index], times, size) for index in order.tolist()],
        *(
            predicted[key][order].tolist() if key in predicted else None
            for key in ('class_scores', 'mask_qualities')
        ),
    )
