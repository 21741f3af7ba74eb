"""Copy stores of pseudo-labels: to the other layout, or several into one; check one."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from rich.progress import track

from mmcast.console import make_console

from .image_names import examples
from .label_shards import LabelShards, first_of_each
from .pseudo_label_store import PseudoLabelStore


@dataclass(frozen=True)
class Copied:
    """What became of the labels of stores.

    Attributes:
        images: Number of images in the new store.
        repeated: Number of further labels of these images, which were left out.
    """

    images: int
    repeated: int

    def __str__(self) -> str:
        return f'{self.images} images' + (
            f'; {self.repeated} further labels of these were left out'
            if self.repeated
            else ''
        )


@dataclass(frozen=True)
class Verified:
    """What a whole store holds.

    Attributes:
        layout: ``'folder'`` or ``'shards'``.
        files: Number of files or shards.
        images: Number of images with labels.
        instances: Number of instances in them.
        repeated: Number of further labels of these images, which nobody reads.
        unfinished: Number of shards that a writer has open, or was killed with.
    """

    layout: str
    files: int
    images: int
    instances: int
    repeated: int = 0
    unfinished: int = 0

    def __str__(self) -> str:
        text = f'{self.files} {"files" if self.layout == "folder" else "shards"} are '
        text += f'whole: {self.images} images, {self.instances} instances'
        if self.repeated:
            text += f'; {self.repeated} further labels of these, which nobody reads'
        if self.unfinished:
            text += f'; {self.unfinished} unfinished shards'
        return text


def convert_store(store: str | Path, out: str | Path) -> Copied:
    """Copy a store to the other layout: a folder to shards, shards to a folder.

    Args:
        store: The store.
        out: The new store; an unfinished copy of an earlier call is continued.

    Raises:
        FileNotFoundError: There is no store.
        ValueError: It is damaged, or ``out`` is inside it or holds something else.
    """
    layout = PseudoLabelStore.open(store).layout
    return _copy([store], out, 'folder' if layout == 'shards' else 'shards')


def merge_stores(stores: Sequence[str | Path], out: str | Path) -> Copied:
    """Copy stores of one teacher into one of full shards, ordered by the names' hash.

    The same labels give the same bytes, whoever wrote them, unless a call was killed
    and continued. If several stores have labels of an image, those of the first stay.

    Args:
        stores: The stores; one alone may have many small shards.
        out: The new store; an unfinished copy of an earlier call is continued.

    Raises:
        FileNotFoundError: There is no such store.
        ValueError: One is damaged, their teachers or settings differ, or ``out`` is
            inside one or holds something else.
    """
    return _copy(stores, out, 'shards')


def verify_store(store: str | Path) -> Verified:
    """Read and check every byte of a store.

    Raises:
        FileNotFoundError: There is no store.
        ValueError: Files are damaged; the message names them.
    """
    opened = PseudoLabelStore.open(store)
    if isinstance(opened.files, LabelShards):
        return _verify_shards(opened, opened.files)
    damaged, images, instances = [], 0, 0
    for name, content in opened.files.all():
        try:
            instances += len(opened.parse(name, content)[1].labels)
            images += 1
        except ValueError as error:
            damaged.append(f'{opened.files.path(name)} ({error})')
    _raise_if(damaged)
    return Verified(opened.layout, images, images, instances)


def _verify_shards(opened: PseudoLabelStore, files: LabelShards) -> Verified:
    damaged: list[str] = []
    shards, members, instances = 0, 0, 0
    for path, entries in files.verify():
        shards += 1
        try:
            for name, content in entries:
                instances += len(opened.parse(name, content)[1].labels)
                members += 1
        except ValueError as error:
            damaged.append(f'{path} ({error})')
    others, unfinished = files.others()
    damaged += [f'{path} (no shard)' for path in others]
    _raise_if(damaged)
    images = files.by_hash()[0].shape[1]
    return Verified(
        opened.layout, shards, images, instances, members - images, unfinished
    )


def settle(store: PseudoLabelStore) -> None:
    """Save what killed writers left, before a store is read as a whole.

    A warning counts the shards that writers still have open, whose labels are not read.
    """
    store.remove_leftovers()
    open_ = store.files.others()[1] if isinstance(store.files, LabelShards) else 0
    if open_:
        print_log(
            f'{open_} shards of {store.root} are unfinished, and what is in them is '
            'left out; call this again when their writers have ended',
            logger='current',
            level=logging.WARNING,
        )


def _raise_if(damaged: Sequence[str]) -> None:
    if damaged:
        raise ValueError(
            f'{len(damaged)} files are damaged: {examples(damaged)}. Delete them and '
            'start again; only their images are labelled again'
        )


def _copy(stores: Sequence[str | Path], out: str | Path, layout: str) -> Copied:
    """Copy stores into one; see :func:`merge_stores`."""
    sources = [PseudoLabelStore.open(store) for store in stores]
    first = sources[0]
    for other in sources:
        other.check(**first.settings())
        other.check_outside(out)
    for other in sources:
        settle(other)
    target = PseudoLabelStore.create(
        out,
        classes=first.classes,
        teacher=first.teacher,
        min_score=first.min_score,
        max_instances=first.max_instances,
        views=first.views,
        layout=layout,
    )
    known = [store for store in (*sources, target) if store.teacher.settings]
    for other in known:
        if other.has_other_settings(known[0].teacher):
            print_log(
                f'{known[0].root} and {other.root} have labels of one checkpoint with '
                'different settings of the network or the test pipeline',
                logger='current',
                level=logging.WARNING,
            )
            break
    target.remove_leftovers()
    # What an earlier call has copied comes first, and stays.
    every = [target.files.by_hash(), *(source.files.by_hash() for source in sources)]
    counts = [hashes.shape[1] for hashes, _ in every]
    starts = np.cumsum([0, *counts])
    order = first_of_each(np.concatenate([hashes for hashes, _ in every], axis=1))
    todo = order[order >= counts[0]]
    numbers = np.searchsorted(starts, todo, 'right') - 1
    try:
        for number, row in track(
            zip(numbers.tolist(), todo.tolist(), strict=True),
            'copying labels',
            total=len(todo),
            console=make_console(),
            transient=True,
        ):
            source = sources[number - 1]
            name, content = every[number][1](row - int(starts[number]))
            try:
                source.parse(name, content)
            except ValueError as error:
                raise ValueError(
                    f'{source.files.path(name)} is damaged ({error}): delete it and '
                    'start again; only its images are labelled again'
                ) from None
            target.files.put(name, content)
    finally:
        target.flush()
    new = first_of_each(np.concatenate([hashes for hashes, _ in every[1:]], axis=1))
    return Copied(len(order), sum(counts[1:]) - len(new))
