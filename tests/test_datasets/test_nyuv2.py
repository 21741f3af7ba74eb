"""Convert generated files in the layout of NYU Depth v2's labelled file."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from nyuv2_files import (
    KNOWN,
    TEST,
    TRAIN,
    Arrays,
    content,
    run_tool,
    small,
    write_mat,
    write_splits,
)

from mmcast.datasets import nyuv2
from mmcast.datasets.nyuv2_classes import CLASSES, label_map


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
