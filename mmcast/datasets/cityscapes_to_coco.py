"""Convert a Cityscapes layout to COCO JSON.

The files have the same names and fields as those of mmdet's own converter
(`.mim/tools/dataset_converters/cityscapes.py`; a test compares them). That converter
insists on the splits train, val and test, numbers the images in the file system's
order, and leaves half a file when it is interrupted.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_utils
from cityscapesscripts.helpers.labels import id2label, labels
from rich.progress import track

from mmcast.files import write_atomic

from .image_names import check_name
from .splits import INSTANCE_IDS, LEFT_IMAGE
from .workers import end_with_parent

THINGS = [label for label in labels if label.hasInstances and not label.ignoreInEval]


def annotation_file(root: str | os.PathLike[str], split: str) -> Path:
    """Return the path of a split's COCO file: mmdet's name, in ``annotations/``."""
    return Path(root, 'annotations', f'instancesonly_filtered_gtFine_{split}.json')


def find_splits(root: str | os.PathLike[str]) -> list[str]:
    """List the splits of a Cityscapes layout that have both images and annotations.

    Raises:
        FileNotFoundError: If there is none.
    """
    root = Path(root)
    splits = [
        folder.name
        for folder in sorted(root.glob('leftImg8bit/*'))
        if (root / 'gtFine' / folder.name).is_dir()
    ]
    if not splits:
        raise FileNotFoundError(
            f"'{root}' has no split under both leftImg8bit/ and gtFine/ (looked in "
            f"'{os.getcwd()}'): give the folder of a Cityscapes layout"
        )
    return splits


def find_images(root: str | os.PathLike[str], split: str) -> list[str]:
    """List a split's annotated images as ``{city}/{city}_*_leftImg8bit.png``, sorted.

    Raises:
        FileNotFoundError: If there is no image, or one has no annotation.
        ValueError: If `check_name` refuses the name of an image.
    """
    images = Path(root, 'leftImg8bit', split)
    names = sorted(
        p.relative_to(images).as_posix() for p in images.glob(f'*/*{LEFT_IMAGE}')
    )
    if not names:
        raise FileNotFoundError(
            f"no {{city}}/*{LEFT_IMAGE} in '{images}' (looked in '{os.getcwd()}'): "
            'give the folder of a Cityscapes layout and one of its splits'
        )
    for name in names:
        path = _instance_ids(root, split, check_name(name, images))
        if not path.is_file():
            raise FileNotFoundError(
                f"'{images / name}' has no annotation '{path}': unpack gtFine "
                'completely, or keep images without annotations in another split folder'
            )
    return names


def read_image(root: str | os.PathLike[str], split: str, name: str) -> dict[str, Any]:
    """Read one annotated image.

    An id of 1000 or more is one instance of class ``id // 1000``; the plain id of a
    thing class marks a crowd.

    Returns:
        A COCO image with its annotations under ``annotations``, all without ids.
    """
    path = _instance_ids(root, split, name)
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if ids is None or ids.ndim != 2:
        raise ValueError(f"'{path}' is not a one-channel PNG: unpack gtFine again")
    # Column-major, as the RLE encoder needs it: once here, not once per instance.
    ids = np.asfortranarray(ids)
    annotations = []
    for value in np.unique(ids[ids >= THINGS[0].id]).tolist():
        label = id2label.get(value // 1000 if value >= 1000 else value)
        if label is None:
            raise ValueError(
                f"'{path}' holds the id {value}, not one of Cityscapes: unpack gtFine "
                'again'
            )
        if label not in THINGS:
            continue
        rle = mask_utils.encode((ids == value).astype(np.uint8))
        annotations.append(
            {
                'iscrowd': int(value < 1000),
                'category_id': label.id,
                'bbox': mask_utils.toBbox(rle).tolist(),
                'area': int(mask_utils.area(rle)),
                'segmentation': {**rle, 'counts': rle['counts'].decode()},
            }
        )
    return {
        'file_name': name,
        'height': ids.shape[0],
        'width': ids.shape[1],
        'segm_file': name[: -len(LEFT_IMAGE)] + '_gtFine_labelIds.png',
        'annotations': annotations,
    }


def read_images(
    root: str | os.PathLike[str], split: str, num_workers: int = 1
) -> Iterator[dict[str, Any]]:
    """Yield `read_image` of each image of a split, sorted, with a progress bar."""
    names = find_images(root, split)
    with ProcessPoolExecutor(num_workers, initializer=end_with_parent) as pool:
        found = pool.map(
            read_image, [root] * len(names), [split] * len(names), names, chunksize=8
        )
        yield from track(found, f'Reading {split}', total=len(names))


def convert_split(
    root: str | os.PathLike[str], split: str, num_workers: int = 1
) -> Path:
    """Write the COCO file of one split.

    Args:
        root: A folder in Cityscapes' layout.
        split: A folder under ``leftImg8bit`` and ``gtFine``.
        num_workers: Processes that read images.

    Returns:
        The file written, ``annotation_file(root, split)``. It appears whole or not
        at all, and does not depend on ``num_workers``.

    Raises:
        FileNotFoundError: If there is no image, or one has no annotation.
        ValueError: If an annotation cannot be read.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in read_images(root, split, num_workers):
        for annotation in image.pop('annotations'):
            # From 1: pycocotools takes a match with annotation 0 for no match.
            annotations.append(
                {**annotation, 'image_id': len(images), 'id': len(annotations) + 1}
            )
        images.append({**image, 'id': len(images)})
    path = annotation_file(root, split)
    content = {
        'images': images,
        'categories': [{'id': label.id, 'name': label.name} for label in THINGS],
        'annotations': annotations,
    }
    write_atomic(path, json.dumps(content))
    return path


def _instance_ids(root: str | os.PathLike[str], split: str, name: str) -> Path:
    return Path(root, 'gtFine', split, name[: -len(LEFT_IMAGE)] + INSTANCE_IDS)
