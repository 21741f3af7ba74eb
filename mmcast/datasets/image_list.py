"""A data set of unlabelled images, over a list of them.

MMEngine's path rule holds: ``ann_file`` and ``data_prefix`` are relative to
``data_root`` if there is one, else to the current folder; an absolute path stays as it
is. `mmcast.datasets.splits` describes the format of a list.
"""

import os
import os.path as osp
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS

from .image_names import IMAGE_SUFFIXES, find_images, find_missing
from .image_tars import PREFIX, ImageTars, image_path, in_tars
from .splits import read_list


def check_folders(dataset: BaseDetDataset) -> None:
    """Raise a one-line error for a missing data root or image folder."""
    if dataset.data_root and not osp.isdir(dataset.data_root):
        raise FileNotFoundError(
            f"data root '{dataset.data_root}' does not exist (looked in "
            f"'{os.getcwd()}'): put or link the data there (docs/data.md) or set "
            'data_root in the config'
        )
    if 'img' not in dataset.data_prefix:
        raise ValueError(
            f'{type(dataset).__name__} has data_prefix={dataset.data_prefix}: give '
            "the image folder as data_prefix=dict(img='...')"
        )
    images = dataset.data_prefix['img']
    if not osp.isdir(images.removeprefix(PREFIX) or '.'):
        raise FileNotFoundError(
            f"image folder '{images}' does not exist (looked in '{os.getcwd()}'): put "
            "the images there or correct data_prefix=dict(img='...') in the config"
        )


@DATASETS.register_module()
class ImageListDataset(BaseDetDataset):
    """Unlabelled images: a list of names, or all images of a folder.

    It opens no image and needs no annotation. It keeps only the names, as UTF-8 bytes
    that data loader workers share: about 50 MB for a million names.

    Items have ``img_path``, ``img_name`` (str, relative to the image folder, with
    ``/``), ``img_id`` (int, index in the data set) and ``instances=[]``.

    Args:
        ann_file (str): List of images; empty for all images below
            ``data_prefix['img']``, sorted.
        data_prefix (dict): ``dict(img=...)``, the image folder; ``tar://FOLDER`` for
            images in the tars of a folder (`mmcast.datasets.image_tars`).
        link_root (str, optional): Links in the image folder may lead to places below
            this folder, too, as a cache of DVC; see `mmcast.datasets.image_names`.
        **kwargs: As for `mmdet.datasets.BaseDetDataset`.

    Raises:
        FileNotFoundError: If the data root, the image folder, the list or an image of
            the list is missing.
        ValueError: If the list or the folder is empty, a line of the list is invalid,
            or a link leads out of the image folder (`mmcast.datasets.image_names`).
    """

    METAINFO: dict = {}

    def __init__(self, *args: Any, link_root: str | None = None, **kwargs: Any):
        self.link_root = link_root
        super().__init__(*args, **kwargs)

    def _join_prefix(self) -> None:
        prefix: dict[str, str] = self.data_prefix
        has_tars = in_tars(prefix.get('img', ''))
        if has_tars:
            prefix['img'] = prefix['img'].removeprefix(PREFIX)
        super()._join_prefix()
        if has_tars:
            prefix['img'] = PREFIX + prefix['img']

    def load_data_list(self) -> list[str]:
        """Return the image names; `_serialize_data` packs them."""
        check_folders(self)
        folder = self.data_prefix['img'] or '.'
        tars = ImageTars(folder) if in_tars(folder) else None
        names = read_list(self.ann_file) if self.ann_file else None
        missing: list[int] = []
        if names is None:
            names = tars.names() if tars else find_images(folder, self.link_root)
        elif tars:
            missing = tars.missing(names)
        else:
            missing = find_missing(names, folder, self.link_root)
        if not names:
            raise ValueError(
                f"there is no image below '{folder}' ({', '.join(IMAGE_SUFFIXES)}): "
                "put images there or correct data_prefix=dict(img='...')"
            )
        if missing:
            raise FileNotFoundError(
                f'{self.ann_file}:{missing[0] + 1}: there is no image '
                f"'{names[missing[0]]}' in '{folder}': correct or remove the line, or "
                "correct data_prefix=dict(img='...')"
            )
        return names

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        data = bytearray()
        address = np.empty(len(self.data_list), np.int64)
        for i, name in enumerate(self.data_list):
            data += name.encode()
            address[i] = len(data)
        self.data_list.clear()
        return np.frombuffer(data, np.uint8), address

    def names(self) -> Iterator[str]:
        """Yield the name of each image, faster than item by item."""
        if not self.serialize_data:
            yield from self.data_list
            return
        data, start = self.data_bytes.tobytes(), 0
        for end in self.data_address.tolist():
            yield data[start:end].decode()
            start = end

    def leave_out(self, indices: Collection[int]) -> None:
        """Remove images; those behind them move up.

        Args:
            indices: Their indices; a set.
        """
        self.data_list = [
            name for index, name in enumerate(self.names()) if index not in indices
        ]
        if self.serialize_data:
            self.data_bytes, self.data_address = self._serialize_data()

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return one item; see the class."""
        if not self._fully_initialized:
            self.full_init()
        idx = idx % len(self) if -len(self) <= idx < len(self) else idx
        if self.serialize_data:
            end = int(self.data_address[idx])
            start = int(self.data_address[idx - 1]) if idx else 0
            name = self.data_bytes[start:end].tobytes().decode()
        else:
            name = self.data_list[idx]
        return {
            'img_path': image_path(self.data_prefix['img'], name),
            'img_name': name,
            'img_id': idx,
            'sample_idx': idx,
            'instances': [],
        }
