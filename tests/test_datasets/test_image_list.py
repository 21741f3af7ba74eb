"""Test the two data sets: their items, errors and memory."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

import mmcast  # noqa: F401
from mmcast.datasets import ImageListDataset, ListedCocoDataset

CLASSES = ('car', 'bus')
NAMES = ['a/0.png', 'a/1.png', 'b/2.png', 'b/3.png']


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write four images: car and bus, car, only a crowd of cars, nothing."""
    for i, name in enumerate(NAMES):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((20, 30, 3), i, np.uint8))
    boxes = [(0, 5, 0), (0, 9, 0), (1, 5, 0), (2, 5, 1)]  # image, category, crowd
    annotations = [
        {
            'id': i,
            'image_id': 10 + image,
            'category_id': category,
            'bbox': [2, 2, 8, 6],
            'area': 48,
            'iscrowd': crowd,
            'segmentation': [[2, 2, 10, 2, 10, 8, 2, 8]],
        }
        for i, (image, category, crowd) in enumerate(boxes)
    ]
    coco = {
        'images': [
            {'id': 10 + i, 'file_name': n, 'height': 20, 'width': 30}
            for i, n in enumerate(NAMES)
        ],
        'categories': [{'id': 5, 'name': 'car'}, {'id': 9, 'name': 'bus'}],
        'annotations': annotations,
    }
    (tmp_path / 'ann.json').write_text(json.dumps(coco))
    (tmp_path / 'list.txt').write_text('b/3.png\na/1.png\na/0.png\n')
    return tmp_path


def labeled(root: Path, **kwargs: Any) -> ListedCocoDataset:
    settings = dict(
        type='ListedCocoDataset',
        data_root=str(root),
        ann_file='ann.json',
        image_list='list.txt',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=CLASSES),
        filter_cfg=dict(filter_empty_gt=True),
    )
    return DATASETS.build({**settings, **kwargs})


def unlabeled(root: Path, **kwargs: Any) -> ImageListDataset:
    settings = dict(
        type='ImageListDataset',
        data_root=str(root),
        ann_file='list.txt',
        data_prefix=dict(img='images'),
        metainfo=dict(classes=CLASSES),
    )
    return DATASETS.build({**settings, **kwargs})


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']


class TestImageListDataset:
    def test_items(self, root: Path) -> None:
        data = unlabeled(root)
        assert len(data) == 3
        assert data.get_data_info(1) == {
            'img_path': str(root / 'images/a/1.png'),
            'img_name': 'a/1.png',
            'img_id': 1,
            'sample_idx': 1,
            'instances': [],
        }
        names = [data.get_data_info(i)['img_name'] for i in range(-3, 3)]
        assert names == ['b/3.png', 'a/1.png', 'a/0.png'] * 2
        with pytest.raises(IndexError):
            data.get_data_info(3)
        assert data.metainfo == {'classes': CLASSES}
        assert data.get_cat_ids(0) == []

    def test_names_beyond_ascii(self, root: Path) -> None:
        names = ['b/3.png', 'ü/größe 1.png', 'a/1.png']
        (root / 'images/ü').mkdir()
        (root / 'images/a/0.png').rename(root / 'images/ü/größe 1.png')
        (root / 'list.txt').write_text('\n'.join(names))
        data = unlabeled(root)
        assert [data.get_data_info(i)['img_name'] for i in range(3)] == names

    def test_all_images_of_a_folder(self, root: Path) -> None:
        (root / 'images/notes.txt').touch()
        (root / 'images/.hidden.png').touch()
        (root / 'images/top.JPG').touch()
        for serialize in (True, False):
            data = unlabeled(root, ann_file='', serialize_data=serialize)
            names = [data.get_data_info(i)['img_name'] for i in range(len(data))]
            assert names == [*NAMES, 'top.JPG']

    def test_subset_and_pipeline(self, root: Path) -> None:
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='PackDetInputs', meta_keys=()),
        ]
        data = unlabeled(root, indices=[2, 0], pipeline=pipeline)
        assert [int(item['inputs'].max()) for item in data] == [0, 3]
        subset = unlabeled(root, pipeline=pipeline).get_subset([1, 2])
        assert [int(item['inputs'].max()) for item in subset] == [1, 0]
        assert subset.get_data_info(0)['img_name'] == 'a/1.png'

    def test_no_image_is_opened(self, root: Path) -> None:
        (root / 'images/a/0.png').write_bytes(b'')
        assert len(unlabeled(root)) == 3

    def test_memory_of_a_long_list(self, root: Path, monkeypatch) -> None:
        """Check that the data set keeps little more than the names."""
        names = [f'city/city_{i:06}_000019_leftImg8bit.png' for i in range(20_000)]
        (root / 'list.txt').write_text('\n'.join(names))
        monkeypatch.setattr('mmcast.datasets.image_list.find_missing', lambda *_: [])
        tracemalloc.start()
        data = unlabeled(root)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert data.get_data_info(12_345)['img_name'] == names[12_345]
        assert held < 1.5 * sum(map(len, names))

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (dict(data_root='nowhere'), "^data root 'nowhere.*docs/data.md"),
            (
                dict(data_prefix=dict(img='none')),
                "^image folder '.*none' does not exist",
            ),
            (dict(data_prefix=dict(img_path='images')), 'data_prefix=dict'),
            (dict(ann_file='none.txt'), r"none.txt' does not exist.*mmcast split"),
            (dict(ann_file='empty.txt'), "empty.txt' is empty"),
            (dict(ann_file='ghost.txt'), r"ghost.txt:2: there is no image 'a/9.png'"),
            (dict(ann_file='ghost2.txt'), r"ghost2.txt:1: there is no image 'c/0.png'"),
            (
                dict(ann_file='', data_prefix=dict(img='void')),
                "no image below '.*void'",
            ),
        ],
    )
    def test_errors(self, root: Path, change: dict, message: str) -> None:
        (root / 'void').mkdir()
        (root / 'empty.txt').touch()
        (root / 'ghost.txt').write_text('a/0.png\na/9.png\n')
        (root / 'ghost2.txt').write_text('c/0.png\n')
        with pytest.raises((FileNotFoundError, ValueError), match=message) as error:
            unlabeled(root, **change)
        assert '\n' not in str(error.value)


class TestListedCocoDataset:
    def test_order_of_the_list_and_empty_images(self, root: Path) -> None:
        data = labeled(root)
        infos = [data.get_data_info(i) for i in range(len(data))]
        assert [info['img_name'] for info in infos] == ['a/1.png', 'a/0.png']
        assert [info['img_id'] for info in infos] == [11, 10]
        assert infos[1]['img_path'] == str(root / 'images/a/0.png')
        assert [i['bbox_label'] for i in infos[1]['instances']] == [0, 1]
        data = labeled(root, filter_cfg=None)
        names = [data.get_data_info(i)['img_name'] for i in range(len(data))]
        assert names == ['b/3.png', 'a/1.png', 'a/0.png']

    def test_same_as_coco_dataset_without_a_list(self, root: Path) -> None:
        ours = labeled(root, image_list=None, test_mode=True)
        settings = dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file='ann.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=CLASSES),
            test_mode=True,
        )
        theirs = DATASETS.build(settings)
        assert len(ours) == len(theirs) == 4
        for i in range(4):
            info = ours.get_data_info(i)
            assert info.pop('img_name') == NAMES[i]
            assert info == theirs.get_data_info(i)
        assert ours.cat_ids == theirs.cat_ids
        assert dict(ours.cat_img_map) == dict(theirs.cat_img_map)

    def test_evaluation_of_some_images_of_a_file_is_refused(self, root: Path) -> None:
        """CocoMetric would count the others' objects as not found."""
        with pytest.raises(ValueError, match=r'list.txt. lists 3 of the 4 ') as error:
            labeled(root, test_mode=True)
        assert '\n' not in str(error.value)
        (root / 'list.txt').write_text('\n'.join(NAMES[::-1]))
        assert len(labeled(root, test_mode=True)) == 4

    def test_crowd_only_images_count_as_empty(self, root: Path) -> None:
        assert len(labeled(root, image_list=None)) == 2
        (root / 'list.txt').write_text('b/2.png\nb/3.png\n')
        with pytest.raises(ValueError, match=r'none of the 2 images of .*list.txt'):
            labeled(root)

    def test_masks_load(self, root: Path) -> None:
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs'),
        ]
        sample = labeled(root, pipeline=pipeline)[1]['data_samples']
        assert sample.gt_instances.masks.masks.sum() == 2 * 48
        assert sample.gt_instances.labels.tolist() == [0, 1]

    def test_list_of_guided_distillation(self, root: Path) -> None:
        coco = json.loads((root / 'ann.json').read_text())
        name = 'ulm/ulm_0_1_leftImg8bit.png'
        coco['images'][0]['file_name'] = name
        (root / 'ann.json').write_text(json.dumps(coco))
        (root / 'images/ulm').mkdir()
        (root / 'images/a/0.png').rename(root / 'images' / name)
        (root / 'list.txt').write_text('ulm_0_1_gtFine_instanceIds.png\n')
        assert labeled(root).get_data_info(0)['img_name'] == name

    def test_warns_of_classes_without_images(self, root: Path, caplog) -> None:
        logger = MMLogger.get_current_instance()
        logger.addHandler(caplog.handler)
        try:
            (root / 'list.txt').write_text('a/0.png\n')
            labeled(root)
            assert not _warnings(caplog)
            (root / 'list.txt').write_text('a/1.png\n')
            labeled(root)
        finally:
            logger.removeHandler(caplog.handler)
        (warning,) = _warnings(caplog)
        assert "list.txt' shows: bus. These classes cannot" in warning
        assert '\n' not in warning

    @pytest.mark.parametrize('resized', [False, True])
    def test_warns_of_images_smaller_than_the_crop(
        self, root: Path, caplog, resized: bool
    ) -> None:
        """Expect no warning if the images are resized before the crop."""
        crop = dict(type='RandomCrop', crop_size=(4096, 2), allow_negative_crop=True)
        resize = dict(type='RandomResize', scale=(9000, 9000), keep_ratio=True)
        logger = MMLogger.get_current_instance()
        logger.addHandler(caplog.handler)
        try:
            labeled(root, pipeline=[resize, crop] if resized else [crop])
        finally:
            logger.removeHandler(caplog.handler)
        told = [line for line in _warnings(caplog) if 'smaller than the crop' in line]
        assert len(told) == (not resized)
        for line in told:
            assert 'the crop of 4096x2' in line
            assert 'lower crop_size or put a RandomResize' in line
            assert '\n' not in line

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            (dict(data_root='nowhere'), "^data root 'nowhere.*docs/data.md"),
            (dict(ann_file=''), 'has no ann_file'),
            (
                dict(ann_file='none.json'),
                "^annotation file '.*none.json' .*own_data.md",
            ),
            (
                dict(ann_file='ann/instancesonly_filtered_gtFine_train.json'),
                r'tools/dataset_converters/cityscapes.py',
            ),
            (dict(image_list='none.txt'), "none.txt' does not exist"),
            (dict(image_list='ghost.txt'), "ghost.txt:2: 'a/9.png' is not an image"),
            (
                dict(metainfo=dict(classes=('car', 'tram'))),
                r"classes \(tram\) .*ann.json' \(car, bus\)",
            ),
            (dict(metainfo=dict(classes=('bus', 'car'))), 'another order'),
            (dict(metainfo=None), r"metainfo=dict\(classes=\('car', 'bus',\)\)"),
            (dict(metainfo=dict(classes=('car'))), 'not a tuple of names'),
            (dict(data_prefix=dict(img='')), "image '.*b/3.png' of .* does not exist"),
        ],
    )
    def test_errors(self, root: Path, change: dict, message: str) -> None:
        (root / 'ghost.txt').write_text('a/0.png\na/9.png\n')
        with pytest.raises((FileNotFoundError, ValueError), match=message) as error:
            labeled(root, **change)
        assert '\n' not in str(error.value)


def test_metainfo_agrees_for_concat_dataset(root: Path) -> None:
    parts = [labeled(root), unlabeled(root)]
    joined = DATASETS.build(dict(type='ConcatDataset', datasets=parts))
    # A dict if all parts agree; otherwise a list of dicts, which no model reads.
    assert joined.metainfo['classes'] == CLASSES


def test_paths_without_a_data_root(root: Path, monkeypatch) -> None:
    monkeypatch.chdir(root)
    assert len(labeled(root, data_root='')) == 2
    absolute = dict(image_list=str(root / 'list.txt'), ann_file=str(root / 'ann.json'))
    assert len(labeled(root, **absolute)) == 2
    assert len(unlabeled(root, data_root='', data_prefix=dict(img='images/'))) == 3
