"""Test the converter, and compare it with mmdet's own on the same files."""

import importlib.util
import json
import multiprocessing
import os
import runpy
import sys
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest

from mmcast.datasets.cityscapes_to_coco import (
    annotation_file,
    convert_split,
    find_splits,
)

ROOT = Path(__file__).parents[2]
MMDET_CONVERTER = Path(mmdet.__file__).parent / '.mim/tools/dataset_converters'


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Write images with instances, crowds, stuff, ignored classes, and an empty one."""
    rng = np.random.default_rng(0)
    for split, city, count in [
        ('train', 'ulm', 3),
        ('train', 'bremen', 2),
        ('val', 'bonn', 1),
    ]:
        for i in range(count):
            ids = np.full((32, 64), 7, np.uint16)
            if (city, i) != ('ulm', 2):
                ids[5:15, 10:40] = 26001
                for value in (24, 24000, 26000, 26002, 33003, 29001, 31, 11, 5):
                    y, x = rng.integers(0, 24), rng.integers(0, 50)
                    ids[y : y + 6, x : x + 9] = value
            stem = f'{city}_{i:06}_000019'
            image = tmp_path / 'leftImg8bit' / split / city / f'{stem}_leftImg8bit.png'
            truth = (
                tmp_path / 'gtFine' / split / city / f'{stem}_gtFine_instanceIds.png'
            )
            for path, content in (
                (image, np.zeros((32, 64, 3), np.uint8)),
                (truth, ids),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(path), content)
    return tmp_path


def by_name(coco: dict) -> dict:
    """Return images with annotations by name, without ids: they depend on the order."""
    images = {
        image['file_name']: (
            {**image, 'id': None},
            [
                {**a, 'id': None, 'image_id': None}
                for a in coco['annotations']
                if a['image_id'] == image['id']
            ],
        )
        for image in coco['images']
    }
    assert sorted(i['id'] for i in coco['images']) == list(range(len(images)))
    # mmdet's ids begin at 0, which pycocotools reads as "unmatched".
    first = coco['annotations'][0]['id']
    assert [a['id'] for a in coco['annotations']] == list(
        range(first, first + len(coco['annotations']))
    )
    return images


def test_output_equals_that_of_mmdets_converter(layout: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        'mmdet_cityscapes', MMDET_CONVERTER / 'cityscapes.py'
    )
    assert spec
    assert spec.loader
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    files = theirs.collect_files(
        str(layout / 'leftImg8bit/train'), str(layout / 'gtFine/train')
    )
    theirs.cvt_annotations(
        theirs.collect_annotations(files), str(layout / 'mmdet.json')
    )
    expected = json.loads((layout / 'mmdet.json').read_text())

    assert find_splits(layout) == ['train', 'val']
    path = convert_split(layout, 'train')
    assert path == layout / 'annotations/instancesonly_filtered_gtFine_train.json'
    found = json.loads(path.read_text())
    assert found['annotations'][0]['id'] == 1
    assert [i['file_name'] for i in found['images']] == sorted(
        i['file_name'] for i in expected['images']
    )
    assert found['images'][0]['file_name'] == (
        'bremen/bremen_000000_000019_leftImg8bit.png'
    )
    assert found['categories'] == expected['categories']
    assert by_name(found) == by_name(expected)
    assert {a['iscrowd'] for a in found['annotations']} == {0, 1}
    assert len(found['images']) == 5


def test_file_does_not_depend_on_the_process_count(layout: Path) -> None:
    one = convert_split(layout, 'train', 1).read_bytes()
    assert convert_split(layout, 'train', 3).read_bytes() == one


def test_command_converts_all_splits(
    layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Run in this process: a new one needs many seconds for its imports.
    tool = str(ROOT / 'tools/dataset_converters/cityscapes.py')
    monkeypatch.setattr(sys, 'argv', [tool, str(layout)])
    runpy.run_path(tool, run_name='__main__')
    assert annotation_file(layout, 'train').exists()
    assert annotation_file(layout, 'val').exists()
    monkeypatch.setattr(sys, 'argv', [tool, str(layout), '--splits', 'test'])
    with pytest.raises(FileNotFoundError, match=r'^no {city}/\*_leftImg8bit') as error:
        runpy.run_path(tool, run_name='__main__')
    assert '\n' not in str(error.value)


def test_errors_leave_no_file(layout: Path) -> None:
    broken = next((layout / 'gtFine/train/ulm').iterdir())
    broken.write_bytes(b'not a png')
    with pytest.raises(ValueError, match=f'{broken.name}.*one-channel PNG'):
        convert_split(layout, 'train', 2)
    assert cv2.imwrite(str(broken), np.full((4, 4), 60001, np.uint16))
    with pytest.raises(ValueError, match='id 60001'):
        convert_split(layout, 'train')
    broken.unlink()
    with pytest.raises(FileNotFoundError, match='has no annotation'):
        convert_split(layout, 'train')
    with pytest.raises(FileNotFoundError, match='leftImg8bit/ and gtFine/'):
        find_splits(layout / 'gtFine')
    assert not (layout / 'annotations').exists()


def test_killed_conversion_keeps_the_old_file(layout: Path) -> None:
    """End the process before it renames the new file."""
    path = convert_split(layout, 'train')
    before = path.read_bytes()
    first = next((layout / 'gtFine/train/ulm').iterdir())
    assert cv2.imwrite(str(first), np.full((32, 64), 26001, np.uint16))

    def die_before_rename() -> None:
        os.replace = lambda *_: os._exit(9)
        convert_split(layout, 'train')

    fork = multiprocessing.get_context('fork')
    process = fork.Process(target=die_before_rename)
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert path.read_bytes() == before
