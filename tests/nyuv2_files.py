"""Generate files in the layout of NYU Depth v2's labelled file, and convert them."""

import runpy
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from mmcast.datasets.nyuv2 import convert

TOOL = Path(__file__).parents[1] / 'tools/dataset_converters/nyuv2.py'
TRAIN, TEST = [1, 3, 6], [2, 4, 5]

# Label, its name in the labelled file, its class of 40, its class of 13.
KNOWN = [
    (1, 'book', 'otherprop', 'objects'),
    (3, 'cabinet', 'cabinet', 'furniture'),
    (4, 'ceiling', 'ceiling', 'ceiling'),
    (5, 'chair', 'chair', 'chair'),
    (7, 'counter', 'counter', 'furniture'),
    (8, 'dishwasher', 'otherstructure', 'objects'),
    (11, 'floor', 'floor', 'floor'),
    (12, 'garbage bin', 'otherfurniture', 'furniture'),
    (15, 'paper', 'paper', 'objects'),
    (17, 'refridgerator', 'refridgerator', 'furniture'),
    (19, 'table', 'table', 'table'),
    (21, 'wall', 'wall', 'wall'),
    (24, 'sink', 'sink', 'objects'),
    (26, 'box', 'box', 'objects'),
    (28, 'door', 'door', 'wall'),
    (36, 'desk', 'desk', 'table'),
    (42, 'shelves', 'shelves', 'furniture'),
    (45, 'whiteboard', 'whiteboard', 'objects'),
    (55, 'bag', 'bag', 'objects'),
    (59, 'window', 'window', 'window'),
    (64, 'picture', 'picture', 'picture'),
    (80, 'blinds', 'blinds', 'window'),
    (83, 'sofa', 'sofa', 'sofa'),
    (85, 'books', 'books', 'books'),
    (88, 'bookshelf', 'bookshelf', 'furniture'),
    (89, 'curtain', 'curtain', 'window'),
    (119, 'pillow', 'pillow', 'objects'),
    (122, 'mirror', 'mirror', 'objects'),
    (123, 'shower curtain', 'shower curtain', 'objects'),
    (124, 'toilet', 'toilet', 'objects'),
    (135, 'towel', 'towel', 'objects'),
    (136, 'bathtub', 'bathtub', 'objects'),
    (141, 'clothes', 'clothes', 'objects'),
    (143, 'floor mat', 'floor mat', 'floor'),
    (144, 'lamp', 'lamp', 'objects'),
    (157, 'bed', 'bed', 'bed'),
    (158, 'night stand', 'night stand', 'furniture'),
    (169, 'dresser', 'dresser', 'furniture'),
    (172, 'television', 'television', 'tv'),
    (331, 'person', 'person', 'objects'),
    (882, 'lectern', 'otherfurniture', 'furniture'),
    (874, 'mantle', 'otherstructure', 'objects'),
    (894, 'torah', 'otherprop', 'objects'),
]

Arrays = dict[str, Any]


def content(count: int = 6, size: tuple[int, int] = (12, 20)) -> Arrays:
    """Return arrays by name in Python's order: rows by columns, from image 1 on."""
    rng = np.random.default_rng(0)
    shape = (count, *size)
    names = [f'name {number}' for number in range(1, 895)]
    for label, name, *_ in KNOWN:
        names[label - 1] = name
    return {
        'images': rng.integers(0, 256, (*shape, 3), np.uint8),
        'labels': rng.integers(0, 895, shape, np.uint16),
        'depths': rng.uniform(0.5, 10, shape).astype(np.float32),
        'rawDepths': rng.uniform(0.5, 10, shape).astype(np.float32)
        * (rng.random(shape) < 0.7).astype(np.float32),
        'names': names,
    }


def write_mat(path: Path, arrays: Arrays) -> Path:
    """Write arrays as MATLAB 7.3 does: opposite order of axes, one object per name."""
    with h5py.File(path, 'w', userblock_size=512) as file:
        for key, array in arrays.items():
            if key != 'names':
                # The images are the last axis in MATLAB, and the first in HDF5.
                turned = np.moveaxis(array, 0, -1).transpose()
                file.create_dataset(
                    key, data=turned, chunks=(1, *turned.shape[1:]), compression='gzip'
                )
        names = arrays.get('names', [])
        cells = file.create_dataset('names', (1, len(names)), h5py.ref_dtype)
        for number, name in enumerate(names):
            codes = np.array([[ord(letter)] for letter in name], np.uint16)
            cells[0, number] = file.create_dataset(f'#refs#/{number}', data=codes).ref
    return path


def write_splits(path: Path, train: Any = TRAIN, test: Any = TEST) -> Path:
    columns = {'trainNdxs': np.array([train]).T, 'testNdxs': np.array([test]).T}
    scipy.io.savemat(path, columns)
    return path


def small(files: tuple[Path, Path], out: Path, **kwargs: Any) -> Path:
    return convert(*files, out, strict=False, progress=False, **kwargs)


def run_tool(monkeypatch: pytest.MonkeyPatch, *argv: object) -> None:
    # Run in this process: a new one needs many seconds for its imports.
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, argv)])
    runpy.run_path(str(TOOL), run_name='__main__')
