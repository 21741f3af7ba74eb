"""Label images with a detector: resumable, split over ranks, in constant memory."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmcast.apis.label_progress import labelling
from mmcast.apis.label_summary import LabelSummary, summarise
from mmcast.apis.labeler import Labeler, ViewLoader
from mmcast.apis.load_model import settings_digest
from mmcast.apis.merged_views import Views
from mmcast.apis.ranks import from_all_ranks, on_rank_zero, raise_on_all_ranks
from mmcast.datasets.image_tars import image_path
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.transforms.loading import LoadPseudoAnnotations
from mmcast.datasets.workers import end_with_parent

# So many failures without a success are not the images' fault.
_MOST_ODD = 10


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
    rule: LoadPseudoAnnotations | None = None,
    allowed_unreadable: int | None = 0,
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
        img_root: Folder of the images, or ``tar://FOLDER``.
        store: The store to write to.
        batch_size: Images per forward pass.
        device: Device to run the model on; None to leave the model where it is.
        num_workers: Processes that read images; 0 for none.
        progress: Whether rank 0 shows a progress bar.
        rule: What training asks of a label; the summary counts those. None for all.
        allowed_unreadable: So many images may be unreadable, or all but one for None;
            they are named in a warning and have no labels.
        views: What the model sees of an image; None for the image as it is. The
            instances of several views are merged (:mod:`mmcast.apis.merged_views`).

    Raises:
        RuntimeError: There is not enough memory, or the GPU failed.
        ValueError: The model's classes are not the store's, it predicts no masks, the
            store holds a damaged file, or more images cannot be read (raised after all
            others are labelled).
    """
    check_classes(model, store)
    views = views or Views()
    store.check(views=views.names())
    labeler = Labeler(
        model,
        min_score=store.min_score,
        max_instances=store.max_instances,
        views=views,
    )
    if device is not None:
        model.to(device)
    model.eval()

    def plan() -> tuple[list[str], bool]:
        store.remove_leftovers()
        return store.missing(names), next(store.files.all(), None) is None

    missing, is_new = on_rank_zero(plan)
    rank, world = get_dist_info()
    unreadable: list[str] = []
    if missing:
        print_log(
            f'Labelling {len(missing)} of {len(names)} images into {store.root}',
            logger='current',
        )
        share = missing[rank::world]
        unreadable = raise_on_all_ranks(
            lambda: write_labels(
                labeler,
                share,
                img_root,
                store,
                batch_size=batch_size,
                num_workers=num_workers,
                progress=progress,
                is_new=is_new,
            )
        )
    failed = [line for share in from_all_ranks(unreadable) for line in share]
    return finish(store, names, len(missing), failed, allowed_unreadable, rule=rule)


def check_loading(batch_size: int, num_workers: int) -> None:
    """Raise a ValueError if images cannot be loaded with these numbers."""
    if batch_size < 1 or num_workers < 0:
        raise ValueError(
            'batch_size is at least 1 and num_workers at least 0; found '
            f'{batch_size} and {num_workers}'
        )


def make_store(
    root: str | Path,
    config: str | Path,
    checkpoint: str | Path,
    *,
    classes: Sequence[str],
    views: Views,
    layout: str | None = None,
    max_instances: int = 100,
) -> PseudoLabelStore:
    """Make the store of a teacher's labels, or open it.

    Labels that were made with another config of the checkpoint stay, with a warning.

    Args:
        root: The store's folder.
        config: The teacher's config; a complete store does without the file.
        checkpoint: Its checkpoint.
        classes: Class names in label order.
        views: What the teacher sees of each image.
        layout: As for :meth:`PseudoLabelStore.create`.
        max_instances: As there.

    Raises:
        ValueError: The folder holds another store, or something else; or classes that
            cannot be mirrored are to be.
    """
    views.turns(classes)
    teacher = Teacher.from_files(config, checkpoint)
    if Path(config).is_file():
        teacher = replace(teacher, settings=settings_digest(config))
    store = PseudoLabelStore.create(
        root,
        classes=classes,
        teacher=teacher,
        views=views.names(),
        layout=layout,
        max_instances=max_instances,
    )
    if store.has_other_settings(teacher):
        print_log(
            f'{store.root} has labels of {store.teacher.config} with other settings of '
            f'the network or the test pipeline than {config} has now. They stay; to '
            'label all images anew, give another folder, or delete this one',
            logger='current',
            level=logging.WARNING,
        )
    return store


def finish(
    store: PseudoLabelStore,
    names: Sequence[str],
    missing: int,
    failed: Sequence[str],
    allowed_unreadable: int | None = None,
    *,
    rule: LoadPseudoAnnotations | None = None,
    total: int | None = None,
) -> LabelSummary:
    """Name the images that cannot be read, and summarise the labels.

    Args:
        store: The store.
        names: All images.
        missing: How many of them had no labels before.
        failed: Those that cannot be read, with reasons.
        allowed_unreadable: So many may be unreadable; None for all but one.
        rule: What training asks of a label; the summary counts those. None for all.
        total: Number of images; None if all have names.

    Raises:
        ValueError: More images cannot be read.
    """
    if total is None:
        total = len(names)
    if allowed_unreadable is None:
        allowed_unreadable = max(total - 1, 0)
    if len(failed) > allowed_unreadable:
        raise ValueError(
            f'{len(failed)} of {total} images cannot be read: '
            f'{"; ".join(failed[:5])}{"; ..." if len(failed) > 5 else ""}. All others '
            'are labelled: repair these files or take them off the list, and start '
            'again.'
        )
    labeled = names
    if failed:
        print_log(
            f'{len(failed)} of {total} images cannot be read and have no labels: '
            + '; '.join(failed),
            logger='current',
            level=logging.WARNING,
        )
        without = set(store.missing(names))
        labeled = [name for name in names if name not in without]
    summary = on_rank_zero(
        lambda: summarise(store, labeled, missing - len(failed), rule=rule)
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
    """All views of images; for an unreadable one, an error text."""

    def __init__(
        self,
        names: Sequence[str],
        source: str | Path | Mapping[str, bytes],
        load: ViewLoader,
    ) -> None:
        self.names = names
        self.source = source
        self.load = load

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, list[dict[str, Any]] | str]:
        name = self.names[index]
        image = (
            self.source[name]
            if isinstance(self.source, Mapping)
            else image_path(self.source, name)
        )
        return name, self.load(image, img_name=name, img_id=index)


def _start_worker(worker_id: int) -> None:
    # A fork does not copy OpenCV's threads, and the worker would wait for them.
    cv2.setNumThreads(0)
    end_with_parent(worker_id)


def write_labels(
    labeler: Labeler,
    names: Sequence[str],
    source: str | Path | Mapping[str, bytes],
    store: PseudoLabelStore,
    *,
    batch_size: int,
    num_workers: int,
    progress: bool = False,
    is_new: bool = False,
) -> list[str]:
    """Label images and write what is found, until readers can see it.

    Args:
        labeler: The teacher.
        names: This rank's images, which have no labels yet.
        source: Folder of the images, ``tar://FOLDER``, or their files' contents.
        store: The store.
        batch_size: Images per forward pass.
        num_workers: Processes that read images; 0 for none.
        progress: Whether rank 0 shows a progress bar.
        is_new: Whether no image has labels yet.

    Returns:
        The images that cannot be read, with reasons.

    Raises:
        Exception: The model failed on all of many images, or of a new store.
    """
    try:
        images = _Images(names, source, labeler.loader())
        return _label(labeler, images, store, batch_size, num_workers, progress, is_new)
    finally:
        store.flush()


def _label(
    labeler: Labeler,
    images: _Images,
    store: PseudoLabelStore,
    batch_size: int,
    num_workers: int,
    progress: bool,
    is_new: bool,
) -> list[str]:
    """See :func:`write_labels`."""
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
    odd: list[tuple[str, tuple[int, int]]] = []
    failure: Exception | None = None  # the first; each keeps its image in memory
    rank, world = get_dist_info()
    share = '' if world == 1 else f" (rank 0's share, 1 of {world})"
    with labelling(len(images), share, progress and rank == 0) as advance:
        for batch in batches:
            good = [(name, item) for name, item in batch if not isinstance(item, str)]
            unreadable += [item for _, item in batch if isinstance(item, str)]
            if good:
                rows = labeler.predict(good)
                for (name, _), row in zip(good, rows, strict=True):
                    if row.error is None:
                        store.write(name, row.size, *row.instances)
                        labelled += 1
                    else:
                        odd.append((name, row.size))
                        failure = failure or row.error
            if failure and not labelled and len(odd) >= _MOST_ODD:
                raise failure
            if labelled:  # at once: a call after a kill would meet them all first
                _write_empty(odd, store)
            advance(len(batch))
    if failure and not labelled and is_new:
        raise failure
    _write_empty(odd, store)
    return unreadable


def _write_empty(
    odd: list[tuple[str, tuple[int, int]]], store: PseudoLabelStore
) -> None:
    while odd:
        name, size = odd.pop()
        store.write(name, size, [], [], [], [])
