"""Test that a reader of any file returns a valid object or raises a ValueError.

Mutated files are drawn by hypothesis.
"""

import copy
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hostile import TEACHER, encode, load_mask, square
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.datasets.coco_masks import why_bad_mask
from mmcast.datasets.image_names import check_name
from mmcast.datasets.pseudo_label_entry import format_entry, parse_entry
from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.datasets.rle import is_whole
from mmcast.datasets.splits import format_list, read_list

FIXED = settings(deadline=None, derandomize=True, database=None, max_examples=100)
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
