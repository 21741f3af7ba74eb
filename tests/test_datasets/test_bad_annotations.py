"""Test what becomes of annotations that do not fit their images or the config."""

import json
import shutil

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

from mmcast.testing import THINGS

TRIANGLE = [2, 2, 40, 2, 40, 30]
FLOAT_SIZE = dict(size=[64.0, 128], counts=[0, 100, 64 * 128 - 100])
JSON = 'annotations/instancesonly_filtered_gtFine_train.json'


@pytest.fixture
def data(synthscapes, tmp_path):
    return shutil.copytree(synthscapes, tmp_path / 'data')


def change(data, edit):
    path = data / JSON
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return content


def load(data, **changes):
    config = dict(
        type='SemiSupervisedDataset',
        labeled_dataset=dict(
            type='ListedCocoDataset',
            data_root=str(data),
            ann_file=JSON,
            data_prefix=dict(img='leftImg8bit/train/'),
            metainfo=THINGS,
            **changes,
        ),
        weak_view=[],
    )
    return DATASETS.build(config)


@pytest.fixture
def warnings(monkeypatch):
    """Collect warnings of mmengine's logger."""
    found = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'handle', lambda record: found.append(record.msg))
    return found


def first_image(data):
    name = json.loads((data / JSON).read_text())['images'][0]['file_name']
    return data / 'leftImg8bit/train' / name


def test_good_annotations_do_not_warn(data, warnings):
    load(data)
    assert not any('left out' in text for text in warnings)


def test_objects_of_other_classes_are_counted(data, warnings):
    def edit(content):
        new = dict(content['categories'][0], id=99, name='dog')
        content['categories'].append(new)
        for annotation in content['annotations'][:3]:
            annotation['category_id'] = 99

    total = len(change(data, edit)['annotations'])
    load(data)
    (text,) = (text for text in warnings if 'left out' in text)
    assert f'of the {total} objects' in text
    assert '3 are of classes that the config does not have: they' in text


@pytest.mark.parametrize(
    'bad',
    [
        dict(segmentation=[]),
        dict(segmentation=None),
        dict(segmentation={}),
    ],
)
def test_objects_without_mask_are_counted(bad, data, warnings):
    change(data, lambda content: content['annotations'][1].update(bad))
    dataset = load(data)
    (text,) = (text for text in warnings if 'left out' in text)
    assert '1 have no mask (annotation 2 of target' in text
    for index in range(len(dataset)):
        dataset[index]


@pytest.mark.parametrize(
    'box', [[float('nan'), 0, 5, 5], [1, 1, 0, 5], [1000, 1000, 5, 5], None]
)
def test_training_and_evaluation_take_the_box_from_the_mask(box, data, warnings):
    before = load(data)
    change(data, lambda content: content['annotations'][1].update(bbox=box))
    after = load(data)
    for one, other in zip(before.datasets, after.datasets, strict=True):
        for index in range(len(one)):
            assert one.get_data_info(index) == other.get_data_info(index)
    assert not any('left out' in text for text in warnings)


@pytest.mark.parametrize(
    ('edit', 'why'),
    [
        (dict(segmentation=[]), '1 of its objects have no mask'),
        (dict(segmentation=[[1, 2, 3]]), '1 of its objects have no mask'),
        (dict(id='x'), 'annotation ids are no different whole numbers'),
        (dict(iscrowd=None), 'iscrowd is not always 0 or 1'),
        (dict(area=None), 'an area or a box is missing'),
        (dict(bbox=[1, 2]), 'an area or a box is missing'),
        (dict(ignore=1), 'it has regions to ignore'),
        (dict(segmentation=[TRIANGLE, [1, 2, 3, 4]]), 'no list of polygons'),
        (dict(segmentation=TRIANGLE), 'no list of polygons'),
        (dict(segmentation=FLOAT_SIZE), "a mask's size is no whole number"),
    ],
)
def test_a_file_that_evaluation_reads_otherwise_is_refused(edit, why, data):
    change(data, lambda content: content['annotations'][1].update(edit))
    with pytest.raises(ValueError, match=f'cannot be evaluated as it is: .*{why}'):
        load(data, test_mode=True)


@pytest.mark.parametrize('count', [1, 2])
def test_missing_images_raise_at_start(count, data):
    names = [each['file_name'] for each in change(data, lambda _: None)['images']]
    for name in names[-count:]:
        (data / 'leftImg8bit/train' / name).unlink()
    others = ', nor do 1 others' if count == 2 else ''
    with pytest.raises(FileNotFoundError, match=rf'does not exist{others}: put the'):
        load(data)


def test_image_that_was_resized_raises(data):
    path = first_image(data)
    cv2.imwrite(str(path), np.zeros((32, 64, 3), np.uint8))
    message = 'is 32x64 pixels when it is loaded, but 64x128 in its annotations'
    with pytest.raises(ValueError, match=message):
        load(data)[0]


def test_image_that_is_stored_rotated_raises(data):
    from PIL import Image

    path = first_image(data)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter
    Image.open(path).convert('RGB').save(path.with_suffix('.jpg'), exif=exif)
    path.with_suffix('.jpg').rename(path)
    message = r'is 128x64 pixels .* but 64x128 in its annotations: .*\(EXIF\)'
    with pytest.raises(ValueError, match=message):
        load(data)[0]


def test_file_name_that_is_no_text_raises(data):
    change(data, lambda content: content['images'][0].update(file_name=7))
    with pytest.raises(ValueError, match='has the file_name 7: make it text'):
        load(data)
