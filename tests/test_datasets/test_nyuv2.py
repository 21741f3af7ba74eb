"""Convert generated files in the layout of NYU Depth v2's labelled file."""

import json
import multiprocessing
import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from warm import Warm

from mmcast.datasets import nyuv2
from mmcast.datasets.nyuv2 import convert
from mmcast.datasets.nyuv2_classes import CLASSES, label_map

TOOL = Path(__file__).parents[2] / 'tools/dataset_converters/nyuv2.py'
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


@pytest.fixture
def arrays() -> Arrays:
    return content()


@pytest.fixture
def files(tmp_path: Path, arrays: Arrays) -> tuple[Path, Path]:
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    return mat, write_splits(tmp_path / 'splits.mat')


def small(files: tuple[Path, Path], out: Path, **kwargs: Any) -> Path:
    return convert(*files, out, strict=False, progress=False, **kwargs)


def run_tool(monkeypatch: pytest.MonkeyPatch, *argv: object) -> None:
    # Run in this process: a new one needs many seconds for its imports.
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, argv)])
    runpy.run_path(str(TOOL), run_name='__main__')


def read(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, path
    return pixels


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return time and content by name."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob('*')
        if path.is_file()
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in snapshot(folder).items()}


# -- the files written ---------------------------------------------------------------


def test_tool_writes_all_files_the_right_way_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Convert images of the real size, through all checks but the number of images."""
    arrays = content(2, (480, 640))
    corners = {(0, 0): 1, (0, -1): 2, (-1, 0): 3, (-1, -1): 4}
    for (row, column), k in corners.items():
        arrays['images'][0, row, column] = (k, 10 * k, 20 * k)  # red, green, blue
        arrays['labels'][0, row, column] = KNOWN[k][0]
        arrays['depths'][0, row, column] = k
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    splits = write_splits(tmp_path / 'splits.mat', [2], [1])
    monkeypatch.setattr(nyuv2, 'COUNTS', {'train': 1, 'test': 1})
    out = tmp_path / 'out'
    run_tool(monkeypatch, mat, splits, '--out', out)
    assert capsys.readouterr().out.strip().endswith('nyuv2.json')

    image, labels, depth = (
        read(out / kind / 'test/0001.png') for kind in ('images', 'labels', 'depth')
    )
    assert (image.shape, image.dtype) == ((480, 640, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((480, 640), np.uint8)
    assert (depth.shape, depth.dtype) == ((480, 640), np.uint16)
    for place, k in corners.items():
        assert image[place].tolist() == [20 * k, 10 * k, k]  # OpenCV reads BGR
        assert CLASSES[40][labels[place]] == KNOWN[k][2]
        assert depth[place] == 1000 * k
    np.testing.assert_array_equal(image[..., ::-1], arrays['images'][0])
    train = read(out / 'images/train/0002.png')
    np.testing.assert_array_equal(train[..., ::-1], arrays['images'][1])


def test_lists_and_manifest(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / 'out'
    manifest = small(files, out, classes=13, depth='rawDepths')
    assert (out / 'splits/train.txt').read_text() == '0001\n0003\n0006\n'
    assert (out / 'splits/test.txt').read_text() == '0002\n0004\n0005\n'
    assert manifest == out / 'nyuv2.json'
    assert json.loads(manifest.read_text()) == {
        'format': 'NYU Depth v2',
        'classes': 13,
        'class_names': list(CLASSES[13]),
        'ignored': 255,
        'depth': 'rawDepths',
        'depth_unit': 'millimetre',
        'size': [12, 20],
        'images': {'train': 3, 'test': 3},
    }
    pngs = {
        f'{kind}/{split}/{number:04}.png'
        for kind in ('images', 'labels', 'depth')
        for split, numbers in (('train', TRAIN), ('test', TEST))
        for number in numbers
    }
    lists = {'splits/train.txt', 'splits/test.txt'}
    assert set(contents(out)) == pngs | lists | {'nyuv2.json'}


@pytest.mark.parametrize('classes', [40, 13])
def test_labels_become_classes_by_name(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    arrays['labels'][0] = 0
    flat = arrays['labels'][0].reshape(-1)
    flat[: len(KNOWN)] = [label for label, *_ in KNOWN]
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    splits = write_splits(tmp_path / 'splits.mat')
    out = tmp_path / 'out'
    flags = ['--classes', classes, '--any-size']
    run_tool(monkeypatch, mat, splits, '--out', out, *flags)
    written = read(out / 'labels/train/0001.png').reshape(-1)
    column = {40: 2, 13: 3}[classes]
    for entry, found in zip(KNOWN, written[: len(KNOWN)], strict=True):
        assert CLASSES[classes][found] == entry[column]
    assert (written[len(KNOWN) :] == 255).all()


def test_class_map_is_whole() -> None:
    """Count: 37 of the 40 classes are one name each, three hold the rest."""
    table = label_map(40)
    assert table.shape == (895,)
    assert table[0] == 255
    counts = np.bincount(table[1:])
    assert counts.tolist() == [1] * 37 + [68, 82, 707]
    assert len(CLASSES[40]) == 40
    assert len(CLASSES[13]) == 13
    # These classes have the name of their only label.
    own = {label: name for label, name, of_40, _ in KNOWN if name == of_40}
    assert len(own) == 37
    assert [CLASSES[40][table[label]] for label in own] == list(own.values())

    coarse = label_map(13)
    assert coarse[0] == 255
    assert set(coarse[1:].tolist()) == set(range(13))
    # A class of 40 is never split.
    assert len(set(zip(table.tolist(), coarse.tolist(), strict=True))) == 41
    with pytest.raises(ValueError, match='no map to 19 classes: choose 40 or 13'):
        label_map(19)


@pytest.mark.parametrize('name', ['depths', 'rawDepths'])
def test_depth_is_in_millimetres(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    metres = [0, 0.0004, 0.0006, 0.001, 0.7139, 2.5, 9.9999, 10.0123, 65.535]
    arrays[name][0].reshape(-1)[:9] = metres
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    splits = write_splits(tmp_path / 'splits.mat')
    out = tmp_path / 'out'
    flags = ['--raw-depth'] if name == 'rawDepths' else []
    run_tool(monkeypatch, mat, splits, '--out', out, '--any-size', *flags)
    for split, numbers in (('train', TRAIN), ('test', TEST)):
        for number in numbers:
            written = read(out / 'depth' / split / f'{number:04}.png')
            true = arrays[name][number - 1]
            assert written.dtype == np.uint16
            assert np.abs(written / 1000 - true).max() <= 0.00051
            assert (written[true == 0] == 0).all()
    first = read(out / 'depth/train/0001.png').reshape(-1)[:9]
    assert first.tolist() == [0, 0, 1, 1, 714, 2500, 10000, 10012, 65535]


def test_splits_may_be_any_numbers_in_any_order(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    splits = write_splits(tmp_path / 'other.mat', [5.0, 2.0], [6.0])
    out = tmp_path / 'out'
    small((files[0], splits), out)
    assert (out / 'splits/train.txt').read_text() == '0002\n0005\n'
    assert [path.name for path in (out / 'images/test').iterdir()] == ['0006.png']


# -- unfinished folders --------------------------------------------------------------


def test_second_run_writes_only_what_is_missing(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    small(files, out)
    before = snapshot(out)
    small(files, out)
    assert snapshot(out) == before
    for name in ('labels/test/0004.png', 'splits/train.txt'):
        (out / name).unlink()
        small(files, out)
        after = snapshot(out)
        assert {key for key in after if after[key] != before[key]} == {name}
        assert after[name][1] == before[name][1]
        before = after


@pytest.mark.parametrize('files_before', [0, 1, 3, 12, 20, 21])
def test_killed_run_leaves_no_torn_file_and_is_completed(
    files: tuple[Path, Path], tmp_path: Path, files_before: int
) -> None:
    """End the process before it gives a file its name."""
    small(files, tmp_path / 'whole')
    whole = contents(tmp_path / 'whole')
    assert len(whole) == 21
    out = tmp_path / 'out'

    def die_before_rename() -> None:
        rename, left = os.replace, [files_before]

        def replace(*args: Any) -> None:
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            rename(*args)

        os.replace = replace  # type: ignore[assignment]
        small(files, out)

    process = multiprocessing.get_context('fork').Process(target=die_before_rename)
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert not (out / 'nyuv2.json').exists()
    named = {k: v for k, v in contents(out).items() if not Path(k).name.startswith('.')}
    assert len(named) == files_before
    named.pop('nyuv2.unfinished.json', None)
    assert named.items() <= whole.items()

    small(files, out)
    assert contents(out) == whole


def test_other_data_in_the_folder_is_refused(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / 'out'
    small(files, out)
    before = snapshot(out)
    with pytest.raises(ValueError, match='made with classes 40, not 13: give another'):
        small(files, out, classes=13)
    with pytest.raises(ValueError, match='made with depth depths, not rawDepths'):
        small(files, out, depth='rawDepths')
    splits = write_splits(tmp_path / 'other.mat', [2, 3, 6], [1, 4, 5])
    with pytest.raises(ValueError, match=r'train.txt.* lists other images'):
        small((files[0], splits), out)
    assert snapshot(out) == before
    # The same holds for an unfinished folder.
    (out / 'nyuv2.json').rename(out / 'nyuv2.unfinished.json')
    with pytest.raises(ValueError, match='made with classes 40, not 13'):
        small(files, out, classes=13)

    (out / 'nyuv2.unfinished.json').unlink()
    with pytest.raises(FileExistsError, match=r"has 'images' but no nyuv2\.json"):
        small(files, out)
    (out / 'nyuv2.json').write_text('{"format": "another"}')
    with pytest.raises(FileExistsError, match='not a manifest of NYU Depth v2'):
        small(files, out)
    (out / 'nyuv2.json').write_text('{"format": ')
    with pytest.raises(FileExistsError, match='not a manifest of NYU Depth v2'):
        small(files, out)
    with pytest.raises(FileExistsError, match='is a file: give a folder'):
        small(files, files[0])
    # The downloads may lie in the folder.
    beside = tmp_path / 'beside'
    beside.mkdir()
    downloads = tuple(path.rename(beside / path.name) for path in files)
    assert small(downloads, beside).is_file()


# -- errors --------------------------------------------------------------------------


def change(name: str, value: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: value(arrays[name])})


BROKEN_LAYOUTS = {
    'no images': (lambda a: a.pop('images'), "no array as 'images', not uint8 with 4"),
    'images of float': (
        change('images', lambda x: x.astype(np.float32)),
        r"float32 \(6, 3, 20, 12\) as 'images', not uint8 with 4 axes: give nyu_depth",
    ),
    'grey images': (
        change('images', lambda x: x[..., :1]),
        r'images of shape \(6, 1, 20, 12\), not \(1449, 3, 640, 480\): download',
    ),
    'no labels': (lambda a: a.pop('labels'), "no array as 'labels'"),
    'labels of int32': (
        change('labels', lambda x: x.astype(np.int32)),
        r"int32 .* as 'labels', not uint16 with 3 axes",
    ),
    'fewer labels': (
        change('labels', lambda x: x[:4]),
        r"'labels' of shape \(4, 20, 12\), not \(6, 20, 12\) as the images",
    ),
    'no depths': (lambda a: a.pop('depths'), "no array as 'depths'"),
    'depths of double': (
        change('depths', lambda x: x.astype(np.float64)),
        r"float64 .* as 'depths', not float32 with 3 axes",
    ),
    'turned depths': (
        change('depths', lambda x: x.transpose(0, 2, 1)),
        r"'depths' of shape \(6, 12, 20\), not \(6, 20, 12\)",
    ),
    'names of 895': (
        change('names', lambda x: [*x, 'another']),
        'has 895 names, not 894: download it again',
    ),
}
BROKEN_IMAGES = {
    'label without name': (
        change('names', lambda x: x[:500]),
        r'image \d has the label \d+, but there are 500 names: download it again',
    ),
    'depth in millimetres': (
        change('depths', lambda x: x * 1000),
        r'image 1 has depths from .* to .*, not metres from 0 to 65\.535: download',
    ),
    'negative depth': (change('depths', lambda x: -x), 'image 1 has depths from -'),
    'depth without number': (
        change('depths', lambda x: x * np.float32('nan')),
        'image 1 has depths from nan to nan',
    ),
}


@pytest.mark.parametrize('case', [*BROKEN_LAYOUTS, *BROKEN_IMAGES])
def test_broken_labelled_file(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    damage, message = {**BROKEN_LAYOUTS, **BROKEN_IMAGES}[case]
    damage(arrays)
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    splits = write_splits(tmp_path / 'splits.mat')
    out = tmp_path / 'out'
    with pytest.raises((OSError, ValueError), match=message) as error:
        run_tool(monkeypatch, mat, splits, '--out', out, '--any-size')
    assert '\n' not in str(error.value)
    assert out.exists() == (case in BROKEN_IMAGES)
    assert not (out / 'nyuv2.json').exists()


def test_names_that_are_no_cell_array(arrays: Arrays, tmp_path: Path) -> None:
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    with h5py.File(mat, 'a') as file:
        del file['names']
        file['names'] = np.zeros((1, 894), np.uint16)
    splits = write_splits(tmp_path / 'splits.mat')
    with pytest.raises(ValueError, match=r"uint16 \(1, 894\) as 'names', not a cell"):
        small((mat, splits), tmp_path / 'out')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda a: None, r'images of shape \(6, 3, 20, 12\), not \(6, 3, 640, 480\)'),
        (lambda a: a.update(content(5, (480, 640))), r'shape \(5, 3, 640, 480\)'),
        (
            lambda a: a.update(content(6, (480, 640)), names=a['names'][:-1]),
            'has 893 names, not 894: .* or use strict=False',
        ),
        (
            lambda a: a.update(content(6, (480, 640)), names=sorted(a['names'])),
            "as name 21, not 'wall', so the class map does not hold for it",
        ),
    ],
)
def test_other_than_the_official_labelled_file(
    arrays: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Arrays], None],
    message: str,
) -> None:
    monkeypatch.setattr(nyuv2, 'COUNTS', {'train': 3, 'test': 3})
    damage(arrays)
    mat = write_mat(tmp_path / 'labeled.mat', arrays)
    splits = write_splits(tmp_path / 'splits.mat')
    with pytest.raises(ValueError, match=message):
        convert(mat, splits, tmp_path / 'out', progress=False)
    assert not (tmp_path / 'out').exists()


def test_null_references_as_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nyuv2, 'COUNTS', {'train': 1, 'test': 1})
    mat = write_mat(tmp_path / 'labeled.mat', content(2, (480, 640)))
    with h5py.File(mat, 'a') as file:
        del file['names']
        file.create_dataset('names', (1, 894), h5py.ref_dtype)
    splits = write_splits(tmp_path / 'splits.mat', [1], [2])
    with pytest.raises(ValueError, match="has '' as name 21, not 'wall'"):
        convert(mat, splits, tmp_path / 'out', progress=False)


BROKEN_SPLITS = {
    'image 0': ([0, 1, 3], TEST, 'trainNdxs from 0 to 3, but .* numbers 1 to 6: give'),
    'image 7': (TRAIN, [2, 4, 7], 'testNdxs from 2 to 7, but'),
    'fraction': ([1.5, 3], TEST, r'trainNdxs from 1\.5 to 3\.0, but'),
    'overlap': ([1, 2, 3], TEST, 'names image 2 twice, so the splits overlap'),
    'twice': ([1, 3, 3], TEST, 'names image 3 twice'),
    'text': (['one'], TEST, 'as trainNdxs, not numbers of images: give'),
    'none': (TRAIN, [], r'as testNdxs, not numbers of images: give'),
}


@pytest.mark.parametrize('case', BROKEN_SPLITS)
def test_broken_splits(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    train, test, message = BROKEN_SPLITS[case]
    splits = write_splits(tmp_path / 'broken.mat', train, test)
    out = tmp_path / 'out'
    with pytest.raises((OSError, ValueError), match=message) as error:
        run_tool(monkeypatch, files[0], splits, '--out', out, '--any-size')
    assert '\n' not in str(error.value)
    assert not out.exists()


def test_splits_of_another_kind(files: tuple[Path, Path], tmp_path: Path) -> None:
    mat, splits = files
    out = tmp_path / 'out'
    scipy.io.savemat(splits, {'trainNdxs': np.array([[1]])})
    with pytest.raises(ValueError, match="has no testNdxs: give NYU's splits"):
        small(files, out)
    for content in (b'', b'no MATLAB file at all, but a long text ' * 9):
        splits.write_bytes(content)
        with pytest.raises(ValueError, match='not a MATLAB file of the old') as error:
            small(files, out)
        assert '\n' not in str(error.value)
    with pytest.raises(ValueError, match='not a MATLAB file of the old format'):
        small((mat, mat), out)
    with pytest.raises(FileNotFoundError, match=r'nowhere.mat.*: download splits\.mat'):
        small((mat, tmp_path / 'nowhere.mat'), out)
    assert not out.exists()


def test_split_sizes_other_than_the_official_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mat = write_mat(tmp_path / 'labeled.mat', content(3, (480, 640)))
    monkeypatch.setattr(nyuv2, 'COUNTS', {'train': 2, 'test': 1})
    for train, test in (([1], [2, 3]), ([1], [2])):
        splits = write_splits(tmp_path / 'splits.mat', train, test)
        message = f'1 images for training and {len(test)} for the test, not 2 and 1'
        with pytest.raises(ValueError, match=f'{message}: .*--any-size'):
            convert(mat, splits, tmp_path / 'out', progress=False)
    splits = write_splits(tmp_path / 'splits.mat', [1, 2], [3])
    assert convert(mat, splits, tmp_path / 'out', progress=False).is_file()


def test_official_numbers() -> None:
    assert nyuv2.COUNTS == {'train': 795, 'test': 654}
    assert len(nyuv2.KNOWN_NAMES) >= 12
    names = {label: name for label, name, *_ in KNOWN}
    assert nyuv2.KNOWN_NAMES.items() <= names.items()


def test_unreadable_labelled_file(files: tuple[Path, Path], tmp_path: Path) -> None:
    mat, splits = files
    out = tmp_path / 'out'
    with pytest.raises(FileNotFoundError, match=r'looked in .*: download nyu_depth_v2'):
        small((tmp_path / 'nowhere.mat', splits), out)
    with pytest.raises(ValueError, match=r'not a readable HDF5 file of MATLAB 7\.3'):
        small((splits, splits), out)
    whole = mat.read_bytes()
    mat.write_bytes(whole[: len(whole) // 2])  # an interrupted download
    with pytest.raises(ValueError, match=r'not a readable HDF5 .*: download it again'):
        small(files, out)
    assert not out.exists()

    mat.write_bytes(whole)
    with h5py.File(mat) as file:
        _, chunk = file['labels'].id.read_direct_chunk((3, 0, 0))
    assert whole.count(chunk) == 1
    mat.write_bytes(whole.replace(chunk, b'\xff' * len(chunk)))
    with pytest.raises(OSError, match=r"image 4 of 'labels' cannot be read") as error:
        small(files, out)
    assert re.fullmatch('.*: download it again from the page of.*', str(error.value))
    assert not (out / 'nyuv2.json').exists()
    mat.write_bytes(whole)
    assert small(files, out).is_file()


def test_missing_h5py(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ImportError, match=r': pip install h5py$') as error:
        run_tool(monkeypatch, *files, '--out', tmp_path / 'out')
    assert '\n' not in str(error.value)


def test_unknown_arguments(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no depth 'depth': choose one of"):
        small(files, tmp_path / 'out', depth='depth')
    with pytest.raises(ValueError, match='no map to 4 classes'):
        small(files, tmp_path / 'out', classes=4)


def test_command_fails_without_traceback(
    files: tuple[Path, Path], tmp_path: Path, warm: Warm
) -> None:
    """Run the tool as a user does; the generated file is not of the official size."""
    result = warm(TOOL, *files, '--out', tmp_path / 'out')
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('error: ')
    assert last.endswith('or use strict=False (--any-size) for a smaller file')
    assert 'Traceback' not in result.stderr
