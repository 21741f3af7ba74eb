"""Label images on a Ray cluster: actors of Ray Data's ``map_batches``."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mmcast.apis.image_rows import READER, ImageRows
from mmcast.apis.label import are_rows, check_links, names_to_label, without_shared
from mmcast.apis.label_images import (
    check_classes,
    check_loading,
    finish,
    make_store,
    write_labels,
)
from mmcast.apis.label_summary import LabelSummary
from mmcast.apis.labeler import Labeler
from mmcast.apis.load_model import load_model
from mmcast.apis.merged_views import Views
from mmcast.datasets.image_names import IMAGE_SUFFIXES, examples
from mmcast.datasets.image_tars import PREFIX, in_tars
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, find_shared

# Images of a task. A task that is lost with its node is done again.
_MOST_IMAGES = 512


def label_with_ray(
    config: str | Path,
    checkpoint: str | Path,
    img_root: str | Path,
    store: str | Path,
    *,
    list: str | Path | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    link_root: str | Path | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    num_gpus: float | None = None,
    concurrency: int | None = None,
    max_instances: int = 100,
) -> LabelSummary:
    """Label the images that a store lacks, on the Ray cluster of ``RAY_ADDRESS``.

    Without such a cluster, Ray starts one on this machine. Each task writes shards of
    its own into the store. It can be killed at any time and called again; if a node
    dies, the others do its work. All nodes need the same file system.

    Args:
        config: Config of a detector that predicts masks.
        checkpoint: Its checkpoint.
        img_root: Folder of the images, ``tar://FOLDER`` for tars of images, or a place
            that :mod:`mmcast.apis.image_rows` reads, as ``s3://BUCKET/FOLDER``.
        store: Folder of the labels, which has or gets the layout ``shards``.
        list: List of a folder's images; None for the whole folder.
        batch_size: Images per forward pass.
        num_workers: Processes of each actor that read images; 0 for none.
        link_root: Links in the image folder may lead to places below this one.
        flip: Whether the detector sees each image mirrored, too.
        scales: At which factors of its test size it sees each image.
        num_gpus: GPUs of an actor; 0.5 for two actors on one. None for 1, or 0 if the
            cluster has none.
        concurrency: Number of actors; None for as many as there are GPUs, or CPUs, for.
        max_instances: Most instances that are kept of an image, the best ones.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ImportError: Ray Data is missing, or what reads the images' file system.
        ValueError: The checkpoint does not fit, the store belongs to another teacher or
            is a folder of files, a tar or all images cannot be read, there is a list
            or a link_root for images that are not a folder, or the cluster lists
            nothing that an actor needs.
    """
    try:
        import pyarrow
        import ray.data
    except ImportError as error:
        raise ImportError(
            f"--engine ray needs Ray Data ({error}): pip install 'ray[data]'"
        ) from error
    views = Views(scales, flip)
    check_loading(batch_size, num_workers)
    rows = ImageRows(str(img_root)) if are_rows(img_root) else None
    names: Any  # None if only reading tells
    if rows is None:
        names = names_to_label(img_root, list, link_root)
    else:
        check_links(img_root, link_root)
        names = rows.names(list)
    # On a CPU: a driver may have no GPU.
    model = load_model(config, checkpoint)
    classes: Any = model.dataset_meta['classes']  # type: ignore[index]
    opened = make_store(
        *(store, config, checkpoint),
        classes=classes,
        views=views,
        layout='shards',
        max_instances=max_instances,
    )
    check_classes(model, opened)
    del model
    opened.remove_leftovers()
    missing: Any = None if names is None else opened.missing(names)
    done: Any = []  # a row for each task
    if missing != []:
        is_new = next(opened.entries(), None) is None
        of_them = '' if names is None else f'{len(missing)} of {len(names)} '
        print_log(f'Labelling {of_them}images into {store}', logger='current')
        started = not ray.is_initialized()
        if started:
            ray.init()
        found = ray.cluster_resources()
        gpus = float('GPU' in found) if num_gpus is None else num_gpus
        actors = concurrency or _most_actors(found, gpus)
        size = min(_MOST_IMAGES, -(-len(missing or ()) // (4 * actors)))
        images = (
            ray.data.from_arrow(
                pyarrow.table({'path': missing}),
                override_num_blocks=-(-len(missing) // size),
            )
            if rows is None
            else rows.read(missing, size)
        )
        images.context.raise_original_map_exception = True
        tasks = images.map_batches(
            _Part,
            fn_constructor_args=(
                Labeler(
                    (os.path.abspath(config), os.path.abspath(checkpoint)),
                    min_score=opened.min_score,
                    max_instances=opened.max_instances,
                    views=views,
                ),
                _absolute(img_root) if rows is None else '',
                os.path.abspath(store),
                batch_size,
                num_workers,
                is_new,
            ),
            batch_size=None,
            num_cpus=1 if rows is None else 1 - READER,
            num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(size=actors),
        )
        try:
            done = [*tasks.iter_rows()]
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error  # Ray's has the traceback as its message
        finally:
            if started:
                ray.shutdown()
        opened.remove_leftovers()  # of actors that were killed
    failed = [line for row in done for line in row['failed']]
    total = None  # as many as names
    if names is None:
        total = sum(row['images'] for row in done)
        if not total:
            raise ValueError(
                f"there is no image in the files of '{img_root}': correct the folder "
                f'(images are {", ".join(IMAGE_SUFFIXES)})'
            )
        names = _labelled(opened, [name for row in done for name in row['names']])
    lacked = sum(row['lacked'] for row in done)
    return finish(opened, names, lacked, failed, total=total)


def _most_actors(found: dict[str, float], gpus: float) -> int:
    """Return how many actors a cluster has room for.

    Args:
        found: What the cluster has.
        gpus: GPUs of an actor.

    Raises:
        ValueError: It has none of what an actor needs.
    """
    kind = 'GPU' if gpus else 'CPU'
    most = found.get(kind, 0) / (gpus or 1)
    if not most:
        raise ValueError(
            f'the Ray cluster lists no {kind}, so the number of actors is unknown: '
            'give --concurrency if it will start nodes, or add a node'
        )
    return max(int(most), 1)


class _Part:
    """An actor: labels the images of a task into shards of their own."""

    def __init__(
        self,
        labeler: Labeler,
        img_root: str,
        store: str,
        batch_size: int,
        num_workers: int,
        is_new: bool,
    ) -> None:
        self.labeler = labeler
        self.img_root = img_root
        self.store = PseudoLabelStore.open(store)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.is_new = is_new

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [str(name) for name in batch['path']]
        broken: list[str] = []
        missing = names
        source: str | dict[str, bytes] = self.img_root
        if 'bytes' in batch:
            broken = [error for error in batch['error'] if error]
            good = [
                (name, content)
                for name, content, error in zip(
                    names, batch['bytes'], batch['error'], strict=True
                )
                if not error
            ]
            names = [name for name, _ in good]
            source = dict(reversed(good))  # of a name, the first image
            unique = sorted(source)
            shared = {*find_shared(unique)}
            missing = self.store.missing(
                [name for name in unique if name not in shared]
            )
        failed = write_labels(
            self.labeler,
            missing,
            source,
            self.store,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            is_new=self.is_new,
        )
        if len(missing) > len(failed):
            self.is_new = False  # the teacher works
        return _row(
            names=names,
            failed=[*broken, *failed],
            lacked=len(missing) + len(broken),
            images=len(batch['path']),
        )


def _labelled(store: PseudoLabelStore, read: Sequence[str]) -> Sequence[str]:
    """Return the images that have labels of their own, with a warning of others.

    Args:
        store: The store.
        read: Images that tasks have read. One that is read twice is two images.
    """
    names = sorted({*read})
    if len(names) < len(read):
        repeated = sorted(name for name, count in Counter(read).items() if count > 1)
        print_log(
            f'{len(read) - len(names)} images have the same name as another one, and '
            f'have no labels: {examples(repeated)}. Rename them',
            logger='current',
            level=logging.WARNING,
        )
    # Of images that share an entry, the fastest task decided which one has it.
    owners = {store.owner(name) for name in find_shared(names)}
    return without_shared(sorted(names, key=lambda name: (name not in owners, name)))


def _row(**values: Any) -> dict[str, np.ndarray]:
    """Return a batch of one row: lists of text stay lists."""
    row = {}
    for key, value in values.items():
        row[key] = np.empty(1, object)
        row[key][0] = value
    return row


def _absolute(img_root: str | Path) -> str:
    """Return an image folder that is the same in another process's current folder."""
    folder = os.path.abspath(str(img_root).removeprefix(PREFIX))
    return PREFIX + folder if in_tars(img_root) else folder
