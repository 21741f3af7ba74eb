"""Images with semantic labels and depth: Cityscapes, NYU Depth v2, SynthScapes."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cityscapesscripts.helpers.labels import trainId2label
from mmdet.datasets import BaseSegDataset
from mmdet.registry import DATASETS

from mmcast.errors import tool

from .image_names import check_name, find_missing
from .nyuv2 import MANIFEST
from .nyuv2_classes import CLASSES
from .seeding import seed_sample

_TRAIN_LABELS = [trainId2label[index] for index in range(19)]


@DATASETS.register_module()
class DepthSegDataset(BaseSegDataset):
    """mmdet's semantic data set, plus a depth file and maybe a camera file an image.

    A file's path is its folder in ``data_prefix``, the image's path below its own
    folder without ``img_suffix``, and a suffix: ``seg_map_suffix``, ``.png`` for depth,
    ``.json`` for cameras. A folder that ``data_prefix`` does not have, or has as None,
    is not read: ``depth_path`` for labels alone, ``seg_map_path`` for depth alone.

    Added keys of a sample: ``depth_path``, ``camera_path``.

    Args:
        data_prefix: Folders ``img_path`` and, as wanted, ``seg_map_path``,
            ``depth_path`` and ``camera_path``.
        kwargs: As mmdet's ``BaseSegDataset``; ``ann_file`` is a list of names without
            suffix, one a line.

    Raises:
        FileNotFoundError: There is no image, or a file of an image is missing.
        ValueError: A name is invalid, or a file leads out of its folder
            (`mmcast.datasets.image_names`).
    """

    depth_suffix = '.png'
    camera_suffix = '.json'

    def __init__(self, data_prefix: dict, **kwargs: Any) -> None:
        given = {kind: path for kind, path in data_prefix.items() if path is not None}
        super().__init__(data_prefix={'img_path': '', **given}, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their files; check that all are there."""
        images = self.data_prefix['img_path']
        if self.ann_file and not os.path.isfile(self.ann_file):
            raise FileNotFoundError(
                f'the list {self.ann_file} is missing: make it, or correct ann_file'
            )
        if not os.path.isdir(images):
            raise FileNotFoundError(
                f'the folder {images} is missing: put the images there, or correct '
                'data_root and data_prefix'
            )
        found = super().load_data_list()
        if not found:
            raise FileNotFoundError(
                f'no image in {images} ends in {self.img_suffix}: correct data_prefix '
                'or img_suffix'
            )
        for info in found:
            name = os.path.relpath(info['img_path'], images)
            name = check_name(name, self.ann_file or images)
            name = name.removesuffix(self.img_suffix)
            for kind in ('depth', 'camera'):
                folder = self.data_prefix.get(f'{kind}_path')
                if folder:
                    suffix = getattr(self, f'{kind}_suffix')
                    info[f'{kind}_path'] = os.path.join(folder, name + suffix)
        self._check_files(found)
        return found

    def _check_files(self, found: Sequence[dict]) -> None:
        for kind in ('img_path', 'seg_map_path', 'depth_path', 'camera_path'):
            folder = self.data_prefix.get(kind)
            paths = [info[kind] for info in found if info.get(kind)]
            names = [os.path.relpath(path, folder) for path in paths]
            missing = find_missing(names, folder) if names else []
            if missing:
                raise FileNotFoundError(
                    f'{len(missing)} of {len(paths)} files of the kind {kind} are '
                    f'missing, the first is {paths[missing[0]]}: put them there, or '
                    'leave the images out of ann_file'
                )

    def __getitem__(self, idx: int) -> Any:
        """Return a sample; its random numbers depend on its place alone."""
        seed_sample(idx)
        return super().__getitem__(idx)


@DATASETS.register_module()
class CityscapesDepthDataset(DepthSegDataset):
    """Cityscapes' 19 classes, disparity and cameras; SynthScapes has the same layout.

    Args:
        void: Whether there is a 20th class, void, as in SwinMTL's research code.
        kwargs: As :class:`DepthSegDataset`.
    """

    METAINFO = dict(
        classes=tuple(label.name for label in _TRAIN_LABELS),
        palette=[label.color for label in _TRAIN_LABELS],
    )
    depth_suffix = '_disparity.png'
    camera_suffix = '_camera.json'

    def __init__(self, void: bool = False, **kwargs: Any) -> None:
        suffixes = dict(
            img_suffix='_leftImg8bit.png',
            seg_map_suffix='_gtFine_labelIds.png',
        )
        if void:
            kwargs['metainfo'] = dict(
                classes=(*self.METAINFO['classes'], 'void'),
                palette=[*self.METAINFO['palette'], (0, 0, 0)],
            )
        super().__init__(**{**suffixes, **kwargs})


@DATASETS.register_module()
class NYUv2Dataset(DepthSegDataset):
    """NYU Depth v2 as ``tools/dataset_converters/nyuv2.py`` leaves it.

    Args:
        split: ``'train'`` (795 images) or ``'test'`` (654).
        num_classes: 40 or 13, as converted.
        kwargs: As :class:`DepthSegDataset`, without paths and suffixes.

    Raises:
        FileNotFoundError: The folder was not converted to the end.
        ValueError: It was converted to other classes.
    """

    def __init__(self, split: str, num_classes: int = 40, **kwargs: Any) -> None:
        super().__init__(
            ann_file=f'splits/{split}.txt',
            data_prefix=dict(
                img_path=f'images/{split}',
                seg_map_path=f'labels/{split}',
                depth_path=f'depth/{split}',
            ),
            img_suffix='.png',
            metainfo=dict(classes=CLASSES[num_classes]),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """List the images, after a look at what the converter wrote."""
        manifest = Path(self.data_root or '', MANIFEST)
        if not manifest.is_file():
            raise FileNotFoundError(
                f'{manifest} is missing: run {tool("dataset_converters/nyuv2.py")} '
                'to its end'
            )
        converted = json.loads(manifest.read_text())['classes']
        wanted = len(self._metainfo['classes'])
        if converted != wanted:
            raise ValueError(
                f'{self.data_root} has {converted} classes, the config {wanted}: '
                'convert to another folder, or set num_classes'
            )
        return super().load_data_list()
