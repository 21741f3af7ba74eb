"""Label a folder of images with a detector, into a store."""

import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmcast.apis.label_images import check_loading, label_images, make_store
from mmcast.apis.label_summary import LabelSummary
from mmcast.apis.load_model import device_of, load_model
from mmcast.apis.merged_views import Views
from mmcast.apis.ranks import on_rank_zero, raise_on_all_ranks
from mmcast.datasets.image_list import ImageListDataset
from mmcast.datasets.image_names import examples
from mmcast.datasets.image_tars import PREFIX
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, find_shared


def label(
    config: str | Path,
    checkpoint: str | Path,
    img_root: str | Path,
    store: str | Path,
    *,
    list: str | Path | None = None,
    batch_size: int = 1,
    num_workers: int = 2,
    device: str | None = None,
    link_root: str | Path | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    layout: str | None = None,
    max_instances: int = 100,
    shard: str | None = None,
) -> LabelSummary:
    """Label the images of a folder that the store lacks.

    It can be killed at any time and called again. Under ``torchrun`` each rank labels
    its share. Images that cannot be read are named in a warning and have no labels, and
    so is the second of two images whose names differ in their suffix alone.

    Args:
        config: Config of a detector that predicts masks.
        checkpoint: Its checkpoint.
        img_root: Folder of the images, or ``tar://FOLDER`` for tars of images.
        store: Folder of the labels.
        list: List of images; None for the whole folder.
        batch_size: Images per forward pass.
        num_workers: Processes that read images; 0 for none.
        device: Device of the model; None for a GPU if there is one.
        link_root: Links in the image folder may lead to places below this one.
        flip: Whether the detector sees each image mirrored, too.
        scales: At which factors of its test size it sees each image. What it finds in
            several views is merged (:mod:`mmcast.apis.merged_views`).
        layout: How a new store keeps the labels: ``'folder'``, a file for each image,
            or ``'shards'``, for a million images.
        max_instances: Most instances that are kept of an image, the best ones.
        shard: ``I/N`` for the I-th of N parts of the images, as a job of an array does
            it; all parts go to one store, and each can be started again.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: The checkpoint does not fit, the store belongs to another teacher,
            no image can be read, or ``shard`` names no part.
    """
    views = Views(scales, flip)
    check_loading(batch_size, num_workers)
    place = device_of(device)
    if 'LOCAL_RANK' in os.environ and not torch.distributed.is_initialized():
        # mmengine's init_dist needs a GPU even with gloo.
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
        torch.distributed.init_process_group('nccl' if cuda else 'gloo')
    names = part_of(names_to_label(img_root, list, link_root), shard)
    model = load_model(config, checkpoint, place)
    classes: Any = model.dataset_meta['classes']  # type: ignore[index]

    def make() -> Path:
        return make_store(
            *(store, config, checkpoint),
            classes=classes,
            views=views,
            layout=layout,
            max_instances=max_instances,
        ).root

    on_rank_zero(make)
    return label_images(
        model,
        names,
        img_root,
        # It fails where a node does not see the files of rank 0's.
        raise_on_all_ranks(lambda: PseudoLabelStore.open(store)),
        batch_size=batch_size,
        num_workers=num_workers,
        allowed_unreadable=None,
        views=views,
    )


def part_of(names: Sequence[str], shard: str | None) -> Sequence[str]:
    """Return the part of the images that ``I/N`` names; all for None.

    The name alone decides which part an image is in, so each is in one, also if images
    come in between the jobs.

    Raises:
        ValueError: ``shard`` names no part.
    """
    if shard is None:
        return names
    number, slash, count = shard.partition('/')
    if not (
        slash
        and number.isdecimal()
        and count.isdecimal()
        and 1 <= int(number) <= int(count)
    ):
        raise ValueError(
            f'shard is {shard}: give I/N with I from 1 to N, as 3/64 for the third of '
            '64 jobs'
        )
    part, parts = int(number) - 1, int(count)
    return [name for name in names if zlib.crc32(name.encode()) % parts == part]


def are_rows(img_root: str | Path) -> bool:
    """Say whether images are those of :mod:`mmcast.apis.image_rows`, for Ray alone."""
    return '://' in str(img_root).removeprefix(PREFIX)


def names_to_label(
    img_root: str | Path, list: str | Path | None, link_root: str | Path | None
) -> Sequence[str]:
    """Return the images of a folder or a list that can have labels of their own.

    Args:
        img_root: Folder of the images.
        list: List of images; None for the whole folder.
        link_root: Links in the image folder may lead to places below this one.

    Raises:
        ValueError: Only Ray reads these images, or ``link_root`` is not for them.
    """
    check_links(img_root, link_root)
    if are_rows(img_root):
        raise ValueError(
            f"only Ray reads '{img_root}': give `mmcast label --engine ray`, or a "
            'folder'
        )
    images = ImageListDataset(
        ann_file=os.path.abspath(list) if list else '',
        data_prefix=dict(img=str(img_root)),
        link_root=None if link_root is None else str(link_root),
    )
    return without_shared([*images.names()])


def check_links(img_root: str | Path, link_root: str | Path | None) -> None:
    """Raise a ValueError if images that are no files have a ``link_root``."""
    if link_root is not None and '://' in str(img_root):
        raise ValueError(
            f"'{link_root}' (link_root) is for links in a folder of this machine, and "
            f"'{img_root}' is none: leave it out"
        )


def without_shared(names: Sequence[str]) -> Sequence[str]:
    """Leave out images that cannot have labels of their own, with a warning."""
    shared = find_shared(names)
    if shared:
        print_log(
            f'{len(shared)} images are named as another one but for the suffix, and '
            f'have no labels: {examples(shared)}. Rename them',
            logger='current',
            level=logging.WARNING,
        )
        left_out = {*shared}
        names = [name for name in names if name not in left_out]
    return names
