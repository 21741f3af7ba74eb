"""Test that files made to do harm are refused in one line, before memory is taken.

Mutated files are drawn by hypothesis: a reader returns a valid object or raises a
ValueError, nothing else.
"""

import copy
import json
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS, TRANSFORMS
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.datasets.coco_file import read_coco
from mmcast.datasets.coco_masks import why_bad_mask
from mmcast.datasets.image_names import check_name
from mmcast.datasets.pseudo_label_entry import format_entry, parse_entry
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.rle import is_whole
from mmcast.datasets.splits import format_list, read_list

FIXED = settings(deadline=None, derandomize=True, database=None, max_examples=100)
TEACHER = Teacher('teacher.py', 'teacher.pth', 'ab' * 32)
DEEP = '[' * 100_000 + ']' * 100_000


def encode(mask):
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def square(size=(20, 30)):
    mask = np.zeros(size, np.uint8)
    mask[2:9, 3:11] = 1
    return encode(mask)


def one_line(error, *parts):
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 1000
    for part in parts:
        assert str(part) in text


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


def load_mask(mask):
    options = dict(with_bbox=False, with_label=False)
    load = TRANSFORMS.build(dict(type='LoadInstances', **options))
    instances = [dict(mask=mask, ignore_flag=0)]
    return load(dict(img_path='a.png', ori_shape=(20, 30), instances=instances))


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


# -- anything ------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 700)
    | st.sampled_from([10**400, 2**31, 2**63])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(['a.png', '../a.png', 'PPYo1', 'a\n']),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(['size', 'counts', 'image']), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def places(content, before=()):
    """Yield the keys of each value in a JSON object."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield (*before, key)
        if isinstance(value, dict | list):
            yield from places(value, (*before, key))


@st.composite
def mutated(draw, content):
    """Replace or remove some values of a JSON object."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        *keys, last = draw(st.sampled_from(sorted(places(content), key=repr)))
        inner = content
        for key in keys:
            inner = inner[key]
        if isinstance(inner, dict) and draw(st.booleans()):
            del inner[last]
        else:
            inner[last] = draw(JSON)
        if not content:
            break
    return content


@st.composite
def damaged(draw, data):
    """Cut, overwrite or insert bytes."""
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 20)))
    return data[:start] + draw(st.binary(max_size=6)) + data[end:]


ENTRY = format_entry(
    'a.png', (20, 30), [0, 1], [0.9, 0.5], [[3, 2, 11, 9]] * 2, [square()] * 2
)
MANIFEST = dict(
    format='mmcast-pseudo-labels',
    version=1,
    classes=['a', 'b'],
    teacher=vars(TEACHER),
    min_score=0.05,
    max_instances=100,
    created='',
)


def as_bytes(content):
    return st.one_of(
        mutated(content).map(lambda new: json.dumps(new).encode()),
        damaged(json.dumps(content).encode()),
        JSON.map(lambda new: json.dumps(new).encode()),
        st.binary(max_size=30),
    )


@pytest.fixture(scope='module')
def folder():
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / 'manifest.json').write_text(json.dumps(MANIFEST))
        yield Path(name)


@FIXED
@given(as_bytes(ENTRY))
def test_any_entry_is_valid_or_refused(folder, data):
    store = PseudoLabelStore.open(folder)
    store.path('a.png').write_bytes(data)
    try:
        labels = store.read('a.png')
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return
    n = len(labels.labels)
    assert labels.bboxes.shape == (n, 4)
    assert labels.scores.shape == (n,)
    assert ((labels.scores >= 0) & (labels.scores <= 1)).all()
    assert np.isfinite(labels.bboxes).all()
    for rle in labels.masks:
        assert mask_utils.decode(rle).shape == labels.size


@pytest.fixture(scope='module')
def manifest_folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@FIXED
@given(as_bytes(MANIFEST))
def test_any_manifest_is_valid_or_refused(manifest_folder, data):
    (manifest_folder / 'manifest.json').write_bytes(data)
    try:
        store = PseudoLabelStore.open(manifest_folder)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return
    assert all(isinstance(name, str) for name in store.classes)
    assert all(isinstance(value, str) for value in vars(store.teacher).values())
    assert 0 <= store.min_score <= 1
    assert store.max_instances >= 0


@FIXED
@given(
    st.binary(max_size=40)
    | damaged(b'a.png\nb/c.png\nulm_0_gtFine_instanceIds.png\n')
    | st.lists(st.sampled_from(['a', '.', '/', '\\', ' ', '\n', '\r', '\x85', 'ü']))
    .map(''.join)
    .map(str.encode)
)
def test_any_list_is_valid_or_refused(folder, data):
    path = folder / 'list.txt'
    path.write_bytes(data)
    try:
        names = read_list(path)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return
    assert len(names) == len(set(names)) > 0
    for name in names:
        assert check_name(name, path) == name
    # What was read can be written, and is then read as the same.
    path.write_text(format_list(names), newline='')
    assert read_list(path) == names


@FIXED
@given(st.lists(st.text('a./\\ \n\r\x85ü_', max_size=8) | st.text(), unique=True))
@example(['ulm_0_gtFine_instanceIds.png'])
def test_written_lists_are_read_as_they_were(folder, names):
    try:
        text = format_list(names)
    except ValueError:
        return
    if names:
        path = folder / 'list.txt'
        path.write_text(text, newline='')
        assert read_list(path) == names


@st.composite
def entries(draw):
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    n = draw(st.integers(0, 4))
    total = size[0] * size[1]
    pixels = st.lists(st.booleans(), min_size=total, max_size=total)
    masks = [np.array(draw(pixels)).reshape(size) for _ in range(n)]
    sides = st.floats(-1e6, 1e6, width=32)
    return (
        *(size, draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))),
        draw(st.lists(st.floats(0, 1), min_size=n, max_size=n, unique=True)),
        [draw(st.lists(sides, min_size=4, max_size=4)) for _ in range(n)],
        masks,
    )


@FIXED
@given(entries())
def test_entries_are_read_as_they_were_written(found):
    size, labels, scores, boxes, masks = found
    rles = [encode(mask) for mask in masks]
    entry = json.loads(json.dumps(format_entry('a', size, labels, scores, boxes, rles)))
    read = parse_entry(entry, 'a', 3)
    assert read.size == size
    order = np.argsort([-round(score, 6) for score in scores], kind='stable')
    assert read.labels.tolist() == [labels[i] for i in order]
    np.testing.assert_allclose(read.scores, [scores[i] for i in order], atol=1e-6)
    wanted = np.reshape([boxes[i] for i in order], (-1, 4))
    np.testing.assert_allclose(read.bboxes, wanted, atol=0.07)
    for rle, i in zip(read.masks, order, strict=True):
        assert (mask_utils.decode(rle) == masks[i]).all()


def decode(text):
    """Decode the characters of an RLE to run lengths, one at a time: the oracle."""
    runs, place = [], 0
    while place < len(text):
        value = shift = 0
        while True:
            code = ord(text[place]) - 48
            place += 1
            value |= (code & 0x1F) << shift
            shift += 5
            if shift > 30:
                raise IndexError  # pycocotools shifts a 32-bit number
            if not code & 0x20:
                break
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


CODES = ''.join(map(chr, range(48, 112)))


@FIXED
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.text(CODES, max_size=8) | st.text(max_size=3) | st.text('0123456', max_size=12),
)
def test_whole_run_lengths_are_those_that_decode_to_the_size(size, text):
    try:
        runs = decode(text)
    except IndexError:
        runs = []
    codes = text and set(text) <= set(CODES)
    wanted = codes and min(runs, default=-1) >= 0 and sum(runs) == size[0] * size[1]
    assert is_whole({'size': list(size), 'counts': text}) == bool(wanted)
    if wanted:
        mask = mask_utils.decode({'size': list(size), 'counts': text})
        values = np.repeat(np.arange(len(runs)) % 2, runs)
        assert (mask == values.reshape(size[::-1]).T).all()


def test_run_of_more_than_six_characters_is_refused():
    """Such a run is 32 bits and more, which pycocotools reads wrongly."""
    codes = [32 + 5, 32, 32, 32, 32, 0]
    assert is_whole({'size': [1, 5], 'counts': ''.join(chr(48 + c) for c in codes)})
    codes.insert(1, 32)
    assert not is_whole({'size': [1, 5], 'counts': ''.join(chr(48 + c) for c in codes)})


@FIXED
@given(JSON, JSON)
def test_is_whole_raises_nothing(size, counts):
    for rle in (size, dict(size=size, counts=counts), dict(size=[2, 3], counts=counts)):
        assert is_whole(rle) in (True, False)
        why = why_bad_mask(rle, 2, 3)
        assert why is None or len(why.splitlines()) == 1


@FIXED
@given(st.lists(st.lists(st.floats() | st.integers() | JSON, max_size=8), max_size=3))
@example([[0.0, 10**400]])
def test_masks_that_pass_are_encoded(polygons):
    """Hand what passes to pycocotools, as LoadInstances does."""
    if polygons and why_bad_mask(polygons, 20, 30) is None:
        assert load_mask(polygons)['gt_masks'].masks.shape == (1, 20, 30)
