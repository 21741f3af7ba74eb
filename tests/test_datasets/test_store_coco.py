"""Bring labels of other tools into a store and back."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gloo_ranks import fork
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.cli import main
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.store_coco import from_coco, to_coco

SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
TRIANGLE = [20.0, 3.0, 28.0, 3.0, 24.0, 15.0]


@pytest.fixture
def store(tmp_path: Path) -> PseudoLabelStore:
    """Make a store whose boxes are not exactly those of its masks."""
    made = PseudoLabelStore.create(
        tmp_path / 'first',
        classes=['cat', 'dog'],
        teacher=Teacher('t.py', 't.pth', '0'),
    )
    rng = np.random.default_rng(0)
    for name in ('b/0.png', 'a.jpg', 'empty.png'):
        masks, boxes = [], []
        for x, y in rng.integers(0, 10, (3 if name != 'empty.png' else 0, 2)):
            pixels = np.zeros((20, 30), np.uint8)
            pixels[y : y + 9, x : x + 12] = rng.random((9, 12)) < 0.9
            masks.append(mask_utils.encode(np.asfortranarray(pixels)))
            boxes.append([x + 0.25, y - 0.5, x + 12.5, y + 9])
        scores = rng.random(len(masks))
        parts = dict(class_scores=scores, mask_qualities=scores[::-1])
        if name == 'a.jpg':
            parts.pop('class_scores')
        labels = [1, 0, 1][: len(masks)]
        made.write(name, (20, 30), labels, scores, boxes, masks, **parts)
    return made


def test_a_folder_is_no_file_to_write(store, tmp_path, monkeypatch):
    monkeypatch.setattr(PseudoLabelStore, 'entries', None)
    with pytest.raises(IsADirectoryError, match='is a folder: give the path of a'):
        to_coco(store.root, tmp_path)


@pytest.mark.parametrize('inside', ['labels.json', 'b/0.json', 'manifest.json'])
def test_a_file_inside_the_store_is_refused(store, inside):
    before = {path: path.read_bytes() for path in store.root.rglob('*.json')}
    with pytest.raises(ValueError, match=r'is inside the store .* a path outside'):
        to_coco(store.root, store.root / inside)
    after = {path: path.read_bytes() for path in store.root.rglob('*.json')}
    assert before == after


def shard_of(name: str, root: Path) -> PseudoLabelStore:
    """Write labels of an image to a shard, and leave it open."""
    made = PseudoLabelStore.create(
        root, classes=['cat'], teacher=Teacher('t.py', 't.pth', '0'), layout='shards'
    )
    made.write(name, (20, 30), [], [], [], [])
    return made


def write_and_die(name: str, root: Path) -> None:
    held = shard_of(name, root)
    os.kill(os.getpid(), signal.SIGKILL)
    held.flush()


def test_shards_of_killed_and_of_living_writers(tmp_path, capfd):
    root, out = tmp_path / 's', tmp_path / 's.json'
    living = shard_of('living.png', root)
    with pytest.raises(ValueError, match=r'no labels: 1 shards are unf.*writers end'):
        to_coco(root, out)
    assert not out.exists()
    process = fork.Process(target=write_and_die, args=('killed.png', root))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    to_coco(root, out)
    assert [i['file_name'] for i in json.loads(out.read_text())['images']] == [
        'killed.png'
    ]
    assert 's.json lacks labels of' in (text := ''.join(capfd.readouterr()))
    assert '1 shards are unfinished; call it again when their writers end' in text
    living.flush()
    to_coco(root, out)
    assert len(json.loads(out.read_text())['images']) == 2
    assert 'lacks' not in ''.join(capfd.readouterr())


def test_an_empty_store_makes_no_file(tmp_path):
    teacher = Teacher('t.py', 't.pth', '0')
    PseudoLabelStore.create(tmp_path / 's', classes=['cat'], teacher=teacher)
    with pytest.raises(ValueError, match='s has no labels: fill it with mmcast label'):
        to_coco(tmp_path / 's', tmp_path / 's.json')
    assert not (tmp_path / 's.json').exists()


def test_a_store_comes_back_as_it_was(store, tmp_path):
    """Also a box that is far from its mask, as after ``mmcast refine``."""
    one = store.read('a.jpg')
    store.write(
        *('a.jpg', one.size, one.labels, one.scores, one.bboxes + 15, one.masks),
        *(None, one.mask_qualities),
    )
    first = to_coco(store.root, tmp_path / 'first.json')
    found = from_coco(first, tmp_path / 'second')
    assert (found.images, found.instances) == (3, 6)
    assert (found.left_out, found.notes) == ({}, {})
    second = to_coco(tmp_path / 'second', tmp_path / 'second.json')
    assert first.read_bytes() == second.read_bytes()
    for name in ('b/0.png', 'a.jpg', 'empty.png'):
        one, other = store.read(name), PseudoLabelStore.open(tmp_path / 'second')
        assert one.masks == other.read(name).masks
        assert (one.bboxes == other.read(name).bboxes).all()
        assert (one.class_scores is None) == (name == 'a.jpg')
        assert one.mask_qualities is not None
    opened = PseudoLabelStore.open(tmp_path / 'second')
    assert opened.teacher.checkpoint == 'first.json'
    assert len(opened.teacher.digest) == 64


def foreign(**changes: Any) -> dict[str, Any]:
    each = dict(image_id='x', category_id=5, segmentation=[SQUARE, TRIANGLE])
    return dict(
        images=[
            dict(id='x', file_name='/data/images/a.png', width=30, height=20),
            dict(id='y', file_name='/data/images/b.png', width=30, height=20),
        ],
        categories=[dict(id=5, name='dog'), dict(id=3, name='cat')],
        annotations=[{**each, 'id': 0, 'score': 0.5, **changes}],
    )


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_foreign_labels(tmp_path, capsys):
    """Classes by name, pieces of a mask together, images by name, other ids."""
    (tmp_path / 'images').mkdir()
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'images/{name}.png'), np.zeros((20, 30), np.uint8))
    coco = foreign()
    square = coco['annotations'][0]
    coco['annotations'] += [
        {**square, 'category_id': 3},
        {**square, 'iscrowd': 1},
        {**square, 'segmentation': [[1, 2]]},
        {**square, 'segmentation': []},
        {**square, 'segmentation': [SQUARE], 'score': 0.75},
    ]
    path = write(tmp_path / 'labels.json', coco)
    words = ['--classes', 'dog', '--images', str(tmp_path / 'images')]
    main(['from-coco', str(path), str(tmp_path / 's'), *words])
    printed = capsys.readouterr().out
    assert '2 instances of 2 images; 1 left out: no mask; 1 left out: unrea' in printed
    assert '1 left out: crowds; 1 left out: other categories' in printed
    found = PseudoLabelStore.open(tmp_path / 's')
    assert found.classes == ('dog',)
    entry = found.read('a.png')
    assert entry.scores.tolist() == [0.75, 0.5]
    expected = np.zeros((20, 30), np.uint8)
    for polygon in (SQUARE, TRIANGLE):
        expected |= mask_utils.decode(
            mask_utils.merge(mask_utils.frPyObjects([polygon], 20, 30))
        )
    assert (mask_utils.decode(entry.masks[1]) == expected).all()
    assert len(found.read('b.png').scores) == 0


def test_what_changes_is_counted(tmp_path):
    """A box that is not the mask's, and a lost polygon."""
    coco = foreign(bbox=[2, 2, 26, 13])
    each = coco['annotations'][0]
    coco['annotations'] += [
        {**each, 'id': 1, 'segmentation': [SQUARE, [1, 2, 3, 4]], 'bbox': [2, 2, 9, 9]},
        {**each, 'id': 2, 'score': 0.25, 'bbox': [12, 2, 10, 10]},
    ]
    for image in coco['images']:
        image['file_name'] = Path(image['file_name']).name
    path = write(tmp_path / 'labels.json', coco)
    found = from_coco(path, tmp_path / 's')
    assert found.notes == {
        'masks that lost a bad polygon (annotation 1 of a.png has four numbers in a '
        "polygon's place, as a box has)": 1,
        'boxes replaced by those of their masks (IoU 0.5 or less)': 1,
    }
    assert str(found).endswith(
        '; boxes replaced by those of their masks (IoU 0.5 or less): 1'
    )
    boxes = PseudoLabelStore.open(tmp_path / 's').read('a.png').bboxes.tolist()
    assert boxes == [[2, 2, 28, 15], [2, 2, 11, 11], [2, 2, 28, 13]]


def test_results_and_a_missing_score(tmp_path):
    coco = foreign()
    results = coco.pop('annotations')
    results[0].pop('id')
    results[0].pop('score')
    images = write(tmp_path / 'images.json', coco)
    path = write(tmp_path / 'results.json', results)
    coco['images'][0]['file_name'] = 'a.png'
    coco['images'][1]['file_name'] = 'b.png'
    write(images, coco)
    from_coco(images, tmp_path / 's', results=path)
    entry = PseudoLabelStore.open(tmp_path / 's').read('a.png')
    assert entry.scores.tolist() == [1.0]
    assert PseudoLabelStore.open(tmp_path / 's').classes == ('cat', 'dog')
    assert entry.labels.tolist() == [1]


@pytest.mark.parametrize(
    ('changes', 'options', 'message'),
    [
        (dict(score=1.5), {}, r'has the score 1.5: give a number from 0 to 1'),
        (dict(score='high'), {}, 'has the score .*high'),
        (dict(segmentation=[]), {}, 'no instance for the store: 1 no mask'),
        (None, {}, 'no instance for the store: it has no annotations, so give'),
        ({}, dict(classes=['horse']), 'no category horse .it has cat, dog'),
        (dict(image_id=7), {}, 'image_id 7, but the file lacks it'),
    ],
)
def test_what_cannot_be_a_store_is_refused(changes, options, message, tmp_path):
    coco = foreign(**(changes or {}))
    if changes is None:
        coco['annotations'] = []
    for image in coco['images']:
        image['file_name'] = Path(image['file_name']).name
    path = write(tmp_path / 'a.json', coco)
    with pytest.raises(ValueError, match=message) as error:
        from_coco(path, tmp_path / 's', **options)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 's').exists()


def test_another_file_does_not_fill_the_same_store(store, tmp_path):
    first = to_coco(store.root, tmp_path / 'first.json')
    from_coco(first, tmp_path / 's')
    from_coco(first, tmp_path / 's')
    changed = json.loads(first.read_text())
    changed['annotations'].pop()
    with pytest.raises(ValueError, match='delete the folder'):
        from_coco(write(tmp_path / 'other.json', changed), tmp_path / 's')
