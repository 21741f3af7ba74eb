"""Read COCO files as tools write them; compare masks with pycocotools' pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.evaluation import CocoMetric
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.datasets.coco_file import CocoFile, read_coco

SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
TRIANGLE = [20, 3, 28, 3, 24, 15]


def content(**changes: Any) -> dict[str, Any]:
    """Return a file with one image of 30x20 pixels and one square."""
    image = dict(id=1, file_name='a.png', width=30, height=20)
    square = dict(id=1, image_id=1, category_id=1, segmentation=[SQUARE])
    square |= dict(bbox=[2, 2, 10, 10], area=100, iscrowd=0)
    found: dict[str, Any] = dict(
        images=[image],
        annotations=[square],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )
    for key, value in changes.items():
        part, _, field = key.partition('_')
        found[f'{part}s' if part != 'category' else 'categories'][0][field] = value
    return found


def read(tmp_path: Path, coco: Any, **more: Any) -> CocoFile:
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(coco))
    return read_coco(path, **more)


@pytest.mark.parametrize(
    'mask',
    [
        [SQUARE],
        [SQUARE, TRIANGLE],
        [[-5.0, -5.0, 8.0, -5.0, 8.0, 90.0]],
        dict(size=[20, 30], counts=[50, 100, 450]),
        dict(size=[20.0, '30'], counts=[50.0, 100, 450]),
    ],
)
@pytest.mark.parametrize(
    ('box', 'area'), [(None, None), ([0, 0, 0, 0], 0), ([10**400] * 4, 'x')]
)
def test_a_mask_decides_about_box_and_area(tmp_path, mask, box, area):
    coco = content(annotation_segmentation=mask, annotation_bbox=box)
    coco['annotations'][0]['area'] = area
    found = read(tmp_path, coco)
    (each,) = found.annotations
    rle = each['segmentation']
    if isinstance(rle, list):
        rle = mask_utils.merge(mask_utils.frPyObjects(rle, 20, 30))
    rows, columns = np.nonzero(mask_utils.decode(rle))
    assert each['area'] == len(rows) > 0
    x, y, width, height = each['bbox']
    assert (x, y) == (columns.min(), rows.min())
    assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert found.mended['boxes unlike their masks'] == 1
    assert found.mended['areas unlike their masks'] == 1


@pytest.mark.parametrize(
    ('mask', 'why'),
    [
        ([[2, 2, 10, 10]], 'four numbers'),
        ([[2, 2]], 'fewer than 3 points'),
        ([SQUARE[:-1]], 'odd number'),
        ([[]], None),
        ([], None),
        (None, None),
        ({}, None),
        ([[2, 2, float('nan'), 2, 5, 5]], 'NaN'),
        ([['2', '2', '5', '2', '5', '5']], 'no list of numbers'),
        ([[40, 2, 50, 2, 50, 9]], 'no pixel in the image'),
        (dict(size=[20, 30], counts=[600]), 'no pixel in the image'),
        (dict(size=[30, 20], counts=[600]), 'is 30x20'),
        (dict(size=[20, 30], counts='PPYo1'), 'do not add up'),
        ('mask', 'neither polygons nor an RLE'),
    ],
)
def test_an_object_without_a_mask_is_left_out_and_named(tmp_path, mask, why):
    found = read(tmp_path, content(annotation_segmentation=mask))
    assert found.annotations == []
    assert found.total == 1
    named, other = (found.bad, found.without_mask)[:: 1 if why else -1]
    assert not other
    (text,) = named
    assert text.startswith('1 of a.png')
    assert (why or '') in text
    assert found.unlike  # pycocotools would fail, or evaluate it


@pytest.mark.parametrize('bad', [[1, 2], [], [2, 2, 9, 9], SQUARE[:-1], 'x'])
def test_a_bad_polygon_among_good_ones_is_dropped_alone(tmp_path, bad):
    found = read(tmp_path, content(annotation_segmentation=[SQUARE, bad, TRIANGLE]))
    assert found.annotations[0]['segmentation'] == [SQUARE, TRIANGLE]
    assert len(found.bad_parts) == 1
    assert not found.bad


def test_one_polygon_without_its_list_is_a_polygon(tmp_path):
    found = read(tmp_path, content(annotation_segmentation=SQUARE))
    assert found.annotations[0]['segmentation'] == [SQUARE]


@pytest.mark.parametrize(
    ('value', 'crowd'),
    [(0, 0), (1, 1), (False, 0), (True, 1), (None, 0), ('0', 0), ('1', 1), (1.0, 1)],
)
def test_iscrowd_is_0_or_1(tmp_path, value, crowd):
    found = read(tmp_path, content(annotation_iscrowd=value))
    assert found.annotations[0]['iscrowd'] == crowd
    assert type(found.annotations[0]['iscrowd']) is int
    assert bool(found.unlike) == (type(value) is not int)


IDS = st.one_of(
    st.integers(0, 2**70), st.uuids().map(str), st.integers(0, 99).map(float)
)


@settings(max_examples=30, derandomize=True)
@given(st.lists(IDS, min_size=3, max_size=3, unique_by=lambda each: str(each)[:9]))
def test_ids_of_any_kind_become_whole_numbers(tmp_path_factory, ids):
    coco = content()
    first, second, third = ids
    coco['images'].append({**coco['images'][0], 'file_name': 'b.png'})
    coco['images'][0]['id'], coco['images'][1]['id'] = first, second
    coco['categories'][0]['id'], coco['categories'][1]['id'] = second, third
    annotation = coco['annotations'][0]
    annotation |= dict(id=third, image_id=second, category_id=third)
    found = read(tmp_path_factory.mktemp('ids'), coco)
    names = {each['id']: each['file_name'] for each in found.images}
    classes = {each['id']: each['name'] for each in found.categories}
    every = [*names, *classes, *(each['id'] for each in found.annotations)]
    assert all(type(each) is int and 0 <= each < 2**53 for each in every)
    assert found.annotations[0]['id'] == 1
    assert names[found.annotations[0]['image_id']] == 'b.png'
    assert classes[found.annotations[0]['category_id']] == 'dog'
    assert [*classes] == sorted(classes)
    assert found.classes_of() == {'a.png': set(), 'b.png': {'dog'}}


def test_whole_numbers_may_be_floats_or_text(tmp_path):
    coco = content(image_id=7.0, image_width='30', image_height=20.0)
    coco['annotations'][0] |= dict(image_id='7', category_id='1.0')
    found = read(tmp_path, coco)
    assert found.images == [dict(id=7, file_name='a.png', height=20, width=30)]
    assert found.annotations[0]['image_id'] == 7


def test_an_unused_category_may_have_the_name_of_another_one(tmp_path):
    coco = content()
    coco['categories'].insert(0, dict(id=0, name='cat', supercategory='none'))
    found = read(tmp_path, coco)
    assert found.categories == [dict(id=1, name='cat'), dict(id=2, name='dog')]
    # CocoMetric would count the class twice.
    assert found.unlike == ['two of its categories have one name']


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_encodings(tmp_path, encoding):
    (tmp_path / 'a.json').write_text(
        json.dumps(content(category_name='Übung'), ensure_ascii=False), encoding
    )
    assert read_coco(tmp_path / 'a.json').classes == ('Übung', 'dog')


@pytest.mark.parametrize(
    'name',
    ['./sub//a.png', 'images\\sub\\a.png', '/mnt/x/images/sub/a.png', 'sub/a.png'],
)
def test_names_are_made_to_fit_the_folder(tmp_path, name):
    (tmp_path / 'images/sub').mkdir(parents=True)
    (tmp_path / 'images/sub/a.png').touch()
    found = read(tmp_path, content(image_file_name=name), folder=tmp_path / 'images')
    assert found.images[0]['file_name'] == 'sub/a.png'


def test_a_name_never_leaves_the_folder(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'b.png').touch()
    for name in ('../b.png', 'x/../../b.png', str(tmp_path / 'b.png')):
        coco = content(image_file_name=name)
        with pytest.raises(ValueError, match='is not below the image folder'):
            read(tmp_path, coco, folder=tmp_path / 'images')


def test_only_the_images_asked_for_are_read(tmp_path):
    coco = content()
    coco['images'].append(dict(id=2, file_name='b.png', width=30, height=20))
    bad = {**coco['annotations'][0], 'id': 2, 'image_id': 2, 'segmentation': 'x'}
    coco['annotations'].append(bad)
    found = read(tmp_path, coco, names={'a.png'})
    assert (found.total, len(found.annotations), found.bad) == (1, 1, [])


@pytest.mark.parametrize('count', [6, 60])
def test_perfect_predictions_have_ap_100(tmp_path, count):
    """With ids from 0, as in the file, pycocotools gives 78 and 97."""
    coco = content()
    square = coco['annotations'][0]
    coco['images'] = [
        dict(id=i, file_name=f'{i}.png', width=30, height=20) for i in range(count)
    ]
    coco['annotations'] = [{**square, 'id': i, 'image_id': i} for i in range(count)]
    found = read(tmp_path, coco)
    names = [image['file_name'] for image in found.images]
    part = found.part(names[1:], ('dog', 'cat'))
    assert part['categories'] == [dict(id=1, name='dog'), dict(id=2, name='cat')]
    assert [image['id'] for image in part['images']] == [*range(1, count)]
    (tmp_path / 'val.json').write_text(json.dumps(part))
    metric = CocoMetric(str(tmp_path / 'val.json'), 'segm', classwise=True)
    metric.dataset_meta = dict(classes=('dog', 'cat'))
    rle = mask_utils.merge(mask_utils.frPyObjects([SQUARE], 20, 30))
    for image in part['images']:
        predicted = dict(
            bboxes=np.array([[2, 2, 12, 12]]),
            scores=np.ones(1),
            labels=np.ones(1, int),
            masks=[dict(rle)],
        )
        about = dict(img_id=image['id'])
        metric.results.append((about, {**about, **predicted}))
    measured = metric.compute_metrics(metric.results)
    assert measured['segm_mAP'] == measured['cat_precision'] == 1.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.sampled_from(['size', 'counts']), inside)
    ),
    max_leaves=6,
)
FIELDS = ['id', 'image_id', 'category_id', 'segmentation', 'bbox', 'area', 'iscrowd']


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.sampled_from(['images', 'annotations', 'categories']), st.data())
def test_any_value_is_read_or_refused_in_one_line(tmp_path_factory, part, data):
    """Whatever a field holds, what comes out can be evaluated."""
    coco = content()
    fields = FIELDS if part == 'annotations' else [*coco[part][0]]
    coco[part][0][data.draw(st.sampled_from(fields))] = data.draw(JSON)
    refused: list[ValueError] = []
    found = CocoFile(Path())
    try:
        found = read(tmp_path_factory.mktemp('any'), coco)
    except ValueError as error:
        refused.append(error)
    assert all(len(str(error).splitlines()) == 1 for error in refused)
    for each in found.annotations:
        assert each['area'] > 0
        assert each['iscrowd'] in (0, 1)
        assert type(each['bbox'][0]) is float
