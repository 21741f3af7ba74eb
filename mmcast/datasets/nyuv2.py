"""Convert NYU Depth v2's labelled file to PNG files (Silberman et al., ECCV 2012).

``nyu_depth_v2_labeled.mat`` is in MATLAB's format 7.3, which is HDF5: it is read with
h5py, with all axes in the opposite order. ``splits.mat`` is in MATLAB's old format.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmcast.files import remove_killed, write_atomic

from .nyuv2_classes import CLASSES, IGNORED, KNOWN_NAMES, NAME_COUNT, label_map

if TYPE_CHECKING:
    import h5py

MANIFEST = 'nyuv2.json'
# The manifest's name until all other files are there.
UNFINISHED = 'nyuv2.unfinished.json'
KINDS = ('images', 'labels', 'depth')
DEPTHS = ('depths', 'rawDepths')
COUNTS = {'train': 795, 'test': 654}
WIDTH, HEIGHT = 640, 480
FARTHEST = 65.535  # metres, the largest depth of 16 bits in millimetres
DOWNLOAD = 'download it again from the page of NYU Depth v2'
ANY_SIZE = 'or use strict=False (--any-size) for a smaller file'


def convert(
    mat: str | os.PathLike[str],
    splits: str | os.PathLike[str],
    out: str | os.PathLike[str],
    classes: int = 40,
    depth: str = 'depths',
    strict: bool = True,
    progress: bool = True,
) -> Path:
    """Write images, labels and depth as PNG, or complete an unfinished folder.

    Writes for each image, named by its number from 1 with four digits:

    * ``images/{split}/0001.png``, RGB of 8 bits;
    * ``labels/{split}/0001.png``, class index of 8 bits from 0; 255 is ignored;
    * ``depth/{split}/0001.png``, millimetres of 16 bits; 0 is no measurement.

    The lists ``splits/train.txt`` and ``splits/test.txt`` hold one name a line. The
    manifest ``nyuv2.json`` appears last. Every file appears whole or not at all, and
    one that is there is not written again.

    Args:
        mat: ``nyu_depth_v2_labeled.mat``. One image of it is in memory at a time.
        splits: ``splits.mat``, with ``trainNdxs`` and ``testNdxs``.
        out: Folder of the data set: missing, unfinished, or finished. Other files in
            it stay.
        classes: 40 or 13.
        depth: ``'depths'``, with holes filled in, or ``'rawDepths'``.
        strict: Whether to refuse files that are not the official ones: other numbers
            and sizes of images, other names.
        progress: Whether to show a progress bar.

    Returns:
        The manifest.

    Raises:
        FileNotFoundError: If ``mat`` or ``splits`` is missing.
        FileExistsError: If ``out`` is a file or holds another data set.
        ImportError: If h5py is missing.
        OSError: If an image in ``mat`` cannot be read.
        ValueError: If an argument is invalid, a file has not the expected layout, or
            ``out`` was made with other arguments.
    """
    table = label_map(classes)
    if depth not in DEPTHS:
        raise ValueError(f'no depth {depth!r}: choose one of {DEPTHS}')
    out = Path(out)
    with _open(mat) as file:
        size = _check_layout(file, depth, strict)
        name_count = _check_names(file, strict)
        numbers = _read_splits(splits, len(file['images']), strict)
        manifest = {
            'format': 'NYU Depth v2',
            'classes': classes,
            'class_names': list(CLASSES[classes]),
            'ignored': IGNORED,
            'depth': depth,
            'depth_unit': 'millimetre',
            'size': size,
            'images': {split: len(found) for split, found in numbers.items()},
        }
        _start(out, manifest, numbers)

        readers: dict[str, Callable[[int], npt.NDArray[Any]]] = {
            'images': lambda number: _read(file, 'images', number)[..., ::-1],  # BGR
            'labels': lambda number: table[_read_labels(file, number, name_count)],
            'depth': lambda number: _read_depth(file, number, depth),
        }
        bar = Progress(
            TextColumn('NYU Depth v2 {task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=not progress,
        )
        with bar:
            for split, found in numbers.items():
                for number in bar.track(found, description=split):
                    for kind, read in readers.items():
                        path = out / kind / split / f'{number:04}.png'
                        if not path.exists():
                            pixels = np.ascontiguousarray(read(number))
                            write_atomic(
                                path, cv2.imencode('.png', pixels)[1].tobytes()
                            )
    if (out / UNFINISHED).exists():
        os.replace(out / UNFINISHED, out / MANIFEST)
    return out / MANIFEST


# -- the labelled file ---------------------------------------------------------------


def _open(mat: str | os.PathLike[str]) -> 'h5py.File':
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"'{mat}' is an HDF5 file, and h5py is missing: pip install h5py"
        ) from None
    if not os.path.isfile(mat):
        raise FileNotFoundError(
            f"'{mat}' is not a file (looked in '{os.getcwd()}'): download "
            'nyu_depth_v2_labeled.mat from the page of NYU Depth v2'
        )
    try:
        return h5py.File(mat, 'r')
    except OSError as error:
        raise ValueError(
            f"'{mat}' is not a readable HDF5 file of MATLAB 7.3 ({error}): {DOWNLOAD}"
        ) from None


def _dataset(file: 'h5py.File', name: str, kind: str, axes: int) -> 'h5py.Dataset':
    """Return a data set after a check of its type and its number of axes."""
    found = file.get(name)
    dtype = getattr(found, 'dtype', None)  # a group has none
    if dtype != np.dtype(kind) or found.ndim != axes:
        is_there = f'{dtype} {found.shape}' if dtype is not None else 'no array'
        wanted = 'a cell array' if kind == 'O' else f'{kind} with {axes} axes'
        raise ValueError(
            f"'{file.filename}' has {is_there} as '{name}', not {wanted}: give "
            f'nyu_depth_v2_labeled.mat, or {DOWNLOAD}'
        )
    return found


def _check_layout(file: 'h5py.File', depth: str, strict: bool) -> list[int]:
    """Check types and sizes; return the images' height and width."""
    images = _dataset(file, 'images', 'uint8', 4)
    count, channels, width, height = images.shape
    official = (sum(COUNTS.values()), 3, WIDTH, HEIGHT)
    if channels != 3 or not images.size or (strict and images.shape != official):
        raise ValueError(
            f"'{file.filename}' has images of shape {images.shape}, not {official}: "
            f'{DOWNLOAD}, {ANY_SIZE}'
        )
    for name, kind in (('labels', 'uint16'), (depth, 'float32')):
        found = _dataset(file, name, kind, 3)
        if found.shape != (count, width, height):
            raise ValueError(
                f"'{file.filename}' has '{name}' of shape {found.shape}, not "
                f'{(count, width, height)} as the images: {DOWNLOAD}'
            )
    return [height, width]


def _check_names(file: 'h5py.File', strict: bool) -> int:
    """Check the names of the labels; return their number."""
    references = _dataset(file, 'names', 'O', 2)[()].ravel()
    if len(references) > NAME_COUNT or (strict and len(references) != NAME_COUNT):
        raise ValueError(
            f"'{file.filename}' has {len(references)} names, not {NAME_COUNT}: "
            f'{DOWNLOAD}, {ANY_SIZE}'
        )
    for number, name in KNOWN_NAMES.items() if strict else ():
        try:
            codes = file[references[number - 1]][()]
            found = ''.join(chr(code) for code in codes.ravel())
        except (AttributeError, KeyError, OSError, TypeError, ValueError):
            found = ''
        if found != name:
            raise ValueError(
                f"'{file.filename}' has {found!r} as name {number}, not {name!r}, so "
                f'the class map does not hold for it: {DOWNLOAD}'
            )
    return len(references)


def _read(file: 'h5py.File', name: str, number: int) -> npt.NDArray[Any]:
    """Read one image of a data set, with the axes in Python's order."""
    try:
        return file[name][number - 1].T
    except OSError as error:
        raise OSError(
            f"'{file.filename}': image {number} of '{name}' cannot be read "
            f'({error}): {DOWNLOAD}'
        ) from None


def _read_labels(
    file: 'h5py.File', number: int, name_count: int
) -> npt.NDArray[np.uint16]:
    """Return uint16 (H, W): 0, or the position of the label's name from 1."""
    labels = _read(file, 'labels', number)
    if labels.max() > name_count:
        raise ValueError(
            f"'{file.filename}': image {number} has the label {labels.max()}, but "
            f'there are {name_count} names: {DOWNLOAD}'
        )
    return labels


def _read_depth(file: 'h5py.File', number: int, name: str) -> npt.NDArray[np.uint16]:
    """Return uint16 (H, W) in millimetres."""
    metres = _read(file, name, number)
    if not ((metres >= 0) & (metres <= FARTHEST)).all():  # also finds NaN
        raise ValueError(
            f"'{file.filename}': image {number} has {name} from {metres.min()} to "
            f'{metres.max()}, not metres from 0 to {FARTHEST}: {DOWNLOAD}'
        )
    return np.rint(metres.astype(np.float64) * 1000).astype(np.uint16)


# -- the splits ----------------------------------------------------------------------


def _read_splits(
    path: str | os.PathLike[str], count: int, strict: bool
) -> dict[str, list[int]]:
    """Return the numbers of the images from 1, sorted, by split."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"'{path}' is not a file (looked in '{os.getcwd()}'): download splits.mat "
            'from the page of NYU Depth v2'
        )
    from scipy.io import loadmat  # slow to import, and only needed here

    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises many types for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"'{path}' is not a MATLAB file of the old format ({reason}): {DOWNLOAD}"
        ) from None
    splits = {}
    for split in COUNTS:
        variable = f'{split}Ndxs'
        found = content.get(variable)
        if found is None:
            raise ValueError(f"'{path}' has no {variable}: give NYU's splits.mat")
        if found.dtype.kind not in 'iuf' or not found.size:
            raise ValueError(
                f"'{path}' has {found.dtype} {found.shape} as {variable}, not numbers "
                "of images: give NYU's splits.mat"
            )
        if not np.isin(found, np.arange(1, count + 1)).all():
            raise ValueError(
                f"'{path}' has {variable} from {found.min()} to {found.max()}, but the "
                f'images have the numbers 1 to {count}: give the splits.mat of this '
                'labelled file'
            )
        splits[split] = sorted(found.ravel().astype(int).tolist())
    both = splits['train'] + splits['test']
    if len(set(both)) < len(both):
        twice = min(number for number in both if both.count(number) > 1)
        raise ValueError(
            f"'{path}' names image {twice} twice, so the splits overlap: {DOWNLOAD}"
        )
    if strict and {split: len(found) for split, found in splits.items()} != COUNTS:
        raise ValueError(
            f"'{path}' has {len(splits['train'])} images for training and "
            f'{len(splits["test"])} for the test, not {COUNTS["train"]} and '
            f'{COUNTS["test"]}: {DOWNLOAD}, {ANY_SIZE}'
        )
    return splits


# -- the folder written --------------------------------------------------------------


def _start(out: Path, manifest: dict[str, Any], numbers: dict[str, list[int]]) -> None:
    """Check that ``out`` agrees, or begin it; write its lists."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"'{out}' is a file: give a folder")
    held = [path for path in (out / MANIFEST, out / UNFINISHED) if path.exists()]
    if held:
        _compare(held[0], manifest)
    else:
        rest = [kind for kind in (*KINDS, 'splits') if (out / kind).exists()]
        if rest:
            raise FileExistsError(
                f"'{out}' has '{rest[0]}' but no {MANIFEST}, so it holds another data "
                'set: give a new folder'
            )
    lists = {
        out / 'splits' / f'{split}.txt': ''.join(f'{number:04}\n' for number in found)
        for split, found in numbers.items()
    }
    for path, text in lists.items():
        if path.exists() and path.read_text(encoding='utf-8') != text:
            raise ValueError(
                f"'{path}' lists other images than this split: give another folder, or "
                'delete this one'
            )
    if not held:
        write_atomic(out / UNFINISHED, json.dumps(manifest, indent=2) + '\n')
    for path, text in lists.items():
        if not path.exists():
            write_atomic(path, text)
    # Temporary files of a killed run; `write_atomic` starts their names with a dot.
    for pattern in ('.nyuv2.*', 'splits/.*', *(f'{kind}/*/.*' for kind in KINDS)):
        remove_killed(out.glob(pattern))


def _compare(path: Path, wanted: dict[str, Any]) -> None:
    """Refuse to mix two data sets in one folder."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get('format') != wanted['format']:
        raise FileExistsError(
            f"'{path}' is not a manifest of NYU Depth v2: give another folder"
        )
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ValueError(
                f"'{path.parent}' was made with {key} {found.get(key)}, not {value}: "
                'give another folder, or delete this one'
            )
