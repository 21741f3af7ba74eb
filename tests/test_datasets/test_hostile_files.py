"""Test that files made to do harm are refused in one line, before memory is taken."""

import json
import tracemalloc

import pytest
from hostile import DEEP, TEACHER, load_mask, one_line, square
from mmdet.registry import DATASETS, TRANSFORMS
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.datasets.coco_file import read_coco
from mmcast.datasets.coco_masks import why_bad_mask
from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.datasets.rle import is_whole

# -- stores --------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    store = PseudoLabelStore.create(tmp_path / 's', classes='ab', teacher=TEACHER)
    rle = square()
    store.write('a.png', (20, 30), [0, 1], [0.9, 0.5], [[3, 2, 11, 9]] * 2, [rle, rle])
    return store


def changed(path, *keys, value):
    """Set a value inside a JSON file, by its keys and indices."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


HUGE = {'size': [40_000, 40_000], 'counts': 'PPYo1'}
FIRST = ('instances', 0)


@pytest.mark.parametrize(
    ('keys', 'value'),
    [
        (('image',), 'x\ny' * 10_000),
        (('size',), None),
        (('size',), [20, 30, 3]),
        (('size',), [20.0, 30.0]),
        (('size',), ['20', '30']),
        (('size',), [-20, -30]),
        (('size',), [10**400, 1]),
        (('instances',), {'0': {}}),
        (('instances',), [7]),
        ((*FIRST, 'label'), 10**400),
        ((*FIRST, 'label'), 0.5),
        ((*FIRST, 'label'), '0'),
        ((*FIRST, 'label'), True),
        ((*FIRST, 'score'), '0.5'),
        ((*FIRST, 'score'), 10**400),
        ((*FIRST, 'score'), 0.1),  # the second has 0.5
        ((*FIRST, 'bbox'), None),
        ((*FIRST, 'bbox'), [0, 0, 1, 1e300]),
        ((*FIRST, 'bbox'), [0, 0, 1, 10**400]),
        ((*FIRST, 'bbox'), [0, 0, 1, '1']),
        ((*FIRST, 'segmentation'), [[0, 0, 5, 0, 5, 5]]),
        ((*FIRST, 'segmentation'), HUGE),
        ((*FIRST, 'segmentation', 'counts'), 7),
        ((*FIRST, 'segmentation', 'counts'), [600]),
        ((*FIRST, 'segmentation', 'counts'), '\udcff'),
        ((*FIRST, 'segmentation', 'counts'), ''),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_crafted_entry_is_refused(keys, value, store):
    path = store.path('a.png')
    changed(path, *keys, value=value)
    with pytest.raises(ValueError, match='delete this file and start again') as error:
        store.read('a.png')
    one_line(error, path)
    with pytest.raises(ValueError, match='delete it and start again') as error:
        list(store.entries())
    one_line(error, path)


@pytest.mark.parametrize(
    ('keys', 'value'),
    [
        (('format',), None),
        (('format',), 'x\ny' * 10_000),
        (('version',), [1]),
        (('classes',), 'ab'),
        (('classes',), [1, 2]),
        (('classes',), None),
        (('teacher',), 'teacher.pth'),
        (('teacher',), {'config': 'a', 'checkpoint': 'b'}),
        (('teacher', 'digest'), 7),
        (('teacher', 'more'), 'x'),
        (('min_score',), float('inf')),
        (('min_score',), '0.05'),
        (('max_instances',), float('inf')),
        (('max_instances',), -1),
        (('max_instances',), 1.5),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_crafted_manifest_is_refused(keys, value, store):
    path = store.root / 'manifest.json'
    changed(path, *keys, value=value)
    for read in (
        lambda: PseudoLabelStore.open(store.root),
        lambda: PseudoLabelStore.create(store.root, classes='ab', teacher=TEACHER),
    ):
        with pytest.raises(ValueError, match='delete the folder, or point') as error:
            read()
        one_line(error, path)


@pytest.mark.parametrize('text', [DEEP, '{"image":' + DEEP + '}', '1' * 5000])
def test_nested_and_endless_files_are_refused(text, store, tmp_path):
    for path, read in (
        (store.path('a.png'), lambda: store.read('a.png')),
        (store.path('a.png'), lambda: list(store.entries())),
        (store.root / 'manifest.json', lambda: PseudoLabelStore.open(store.root)),
        (tmp_path / 'coco.json', lambda: read_coco(tmp_path / 'coco.json')),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match='json') as error:
            read()
        one_line(error, path)


def test_entry_cannot_name_an_image_elsewhere(store):
    """Such a name would be written into the exported COCO file."""
    for name in ('../a.png', '/etc/a.png', 'b.png', 'a\n.png', None, 7):
        changed(store.path('a.png'), 'image', value=name)
        with pytest.raises(ValueError, match='delete it and start again') as error:
            list(store.entries())
        one_line(error, store.path('a.png'))


def test_huge_entry_is_refused_before_memory_is_taken(store):
    """Let size and masks of an entry agree, as in a file made to do harm."""
    side = 20_000
    size = [side, side]
    counts = mask_utils.frPyObjects({'size': size, 'counts': [side * side]}, *size)
    counts = counts['counts'].decode()
    assert is_whole({'size': size, 'counts': counts})
    for key in (('size',), (*FIRST, 'segmentation', 'size')):
        changed(store.path('a.png'), *key, value=size)
    changed(store.path('a.png'), *FIRST, 'segmentation', 'counts', value=counts)
    content = json.loads(store.path('a.png').read_text())
    del content['instances'][1]
    store.path('a.png').write_text(json.dumps(content))
    load = TRANSFORMS.build(
        dict(type='LoadPseudoAnnotations', store=str(store.root), score_thr=0.3)
    )
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r'a.png is 20x30 pixels, but .*20000'
    ) as error:
        load(dict(img_name='a.png', img_shape=(20, 30)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_line(error, store.path('a.png'))
    assert peak < 10_000_000


# -- COCO files ----------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'x')
    annotation = dict(id=7, image_id=1, category_id=1, area=9, iscrowd=0)
    annotation.update(bbox=[2, 2, 5, 5], segmentation=[[2, 2, 7, 2, 7, 7]])
    content = dict(
        images=[dict(id=1, file_name='a.png', height=20, width=30)],
        categories=[dict(id=1, name='a')],
        annotations=[annotation],
    )
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(content))
    return path


def build(path):
    return DATASETS.build(
        dict(
            type='ListedCocoDataset',
            ann_file=str(path),
            data_prefix=dict(img=str(path.parent)),
            metainfo=dict(classes=('a',)),
        )
    )


BAD_MASKS = {
    'beyond 1000000 pixels': [[2, 2, 7, 2, 7, 1e9]],
    'beyond 1000000': [[2, 2, 7, 2, 7, 10**400]],
    'or with NaN': [[2, 2, 7, float('nan'), 7, 7]],
    'or with N': [[2, 2, float('-inf'), 2, 7, 7]],
    'an outline of over 1000000': [[0, 0, 29, 19] * 20_000],
    'no list of numbers': [[2, 2, 7, '2', 7, 7]],
    'no list of': [2, 2, 7, 2, 7, 7],
    'no list': [[[2, 2], [7, 2], [7, 7]]],
    'neither polygons nor an RLE': 'PPYo1',
    "without 'size' or 'counts'": {'counts': 'PPYo1'},
    "without 'size'": {'size': [20, 30], 'counts': 7},
    'is 40000x40000': HUGE,
    'is 30x20': {**square(), 'size': [30, 20]},
    'do not add up to 20x30': {'size': [20, 30], 'counts': [500, 101]},
    'do not add up': {'size': [20, 30], 'counts': [700, -100]},
}


@pytest.mark.parametrize(('why', 'mask'), BAD_MASKS.items(), ids=lambda v: repr(v)[:24])
def test_crafted_mask_is_left_out(why, mask, coco):
    assert len(read_coco(coco).annotations) == 1
    changed(coco, 'annotations', 0, 'segmentation', value=mask)
    found = read_coco(coco)
    if why != 'no list of':  # one polygon without its list
        assert found.annotations == []
        assert found.bad[0].startswith('7 of a.png')
        assert why in found.bad[0]
    assert len(build(coco)) == 1
    with pytest.raises(ValueError, match='make its annotations again') as error:
        load_mask(mask)
    one_line(error, why, 'a.png is 20x30 pixels')


@pytest.mark.parametrize('counts', ['PPYo1', 'zzzz', '0' * 99, '1\n2', 'oooooooo'])
def test_crafted_run_lengths_never_reach_pycocotools(counts):
    mask = {'size': [20, 30], 'counts': counts}
    with pytest.raises(ValueError, match='do not add up to 20x30 pixels') as error:
        load_mask(mask)
    one_line(error, 'a.png')


def test_good_masks_pass():
    tracing = [[2, 2, 7, 2, 7, 7]] * 50
    outside = [[-500, -500, 900, -500, 900, 900]]
    short = [[], [1, 2], [1, 2, 3, 4, 5], [2, 2, 7, 2, 7, 7]]
    for mask in (tracing, outside, short, square(), {**square(), 'counts': [500, 100]}):
        assert why_bad_mask(mask, 20, 30) is None


@pytest.mark.parametrize(
    ('keys', 'value'),
    [
        (('images',), {'a': 1}),
        (('images',), [1]),
        (('annotations',), {'a': 1}),
        (('images', 0, 'id'), [1]),
        (('images', 0, 'height'), '2a'),
        (('images', 0, 'width'), 0),
        (('images', 0, 'width'), float('inf')),
        (('images', 0, 'width'), 10**9),
    ],
)
def test_crafted_coco_file_is_refused(keys, value, coco):
    changed(coco, *keys, value=value)
    with pytest.raises(
        ValueError, match=r'(correct it|in pixels|number or text)$'
    ) as error:
        build(coco)
    one_line(error, coco)
