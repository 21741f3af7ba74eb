"""Find images that two data sets share, by their files."""

import os
from collections.abc import Iterator
from typing import Any

from .image_list import ImageListDataset
from .image_tars import image_path, in_tars


def image_paths(dataset: Any) -> Iterator[str]:
    """Yield the path of each image, with all symbolic links resolved.

    Each folder is resolved and listed once, so a million images take seconds.

    Args:
        dataset: Data set whose items have ``img_path``.
    """
    paths: Iterator[str]
    if isinstance(dataset, ImageListDataset):
        folder = dataset.data_prefix['img']
        if in_tars(folder):  # they are nobody else's files
            yield from (image_path(folder, name) for name in dataset.names())
            return
        folder = os.path.join(folder, '')
        paths = (folder + name for name in dataset.names())
    else:
        infos = (dataset.get_data_info(index) for index in range(len(dataset)))
        paths = (info['img_path'] for info in infos)
    folders: dict[str, tuple[str, set[str]]] = {}
    for path in paths:
        parent, _, name = path.rpartition('/')
        if parent not in folders:
            real = os.path.realpath(parent)
            try:
                with os.scandir(real) as entries:
                    links = {entry.name for entry in entries if entry.is_symlink()}
            except OSError:
                links = set()
            folders[parent] = real, links
        real, links = folders[parent]
        yield os.path.realpath(path) if name in links else f'{real}/{name}'
