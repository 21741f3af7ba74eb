"""Test files that are not NYU Depth v2's, and what its converter says about them."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from nyuv2_files import (
    KNOWN,
    TEST,
    TOOL,
    TRAIN,
    Arrays,
    content,
    run_tool,
    small,
    write_mat,
    write_splits,
)
from warm import Warm

from mmcast.datasets import nyuv2
from mmcast.datasets.nyuv2 import convert


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
    for wrong in (b'', b'no MATLAB file at all, but a long text ' * 9):
        splits.write_bytes(wrong)
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
