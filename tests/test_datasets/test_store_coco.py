"""Bring labels of other tools into a store and back."""

import json
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gloo_ranks import fork
from PIL import ExifTags, Image
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.cli import main
from mmcast.datasets import store_copy
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


def test_shards_of_killed_and_of_living_writers(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(store_copy, 'print_log', lambda text, **_: said.append(text))
    root, out = tmp_path / 's', tmp_path / 's.json'
    living = shard_of('living.png', root)
    with pytest.raises(ValueError, match=r's has no labels'):
        to_coco(root, out)
    assert f'1 shards of {root} are unfinished' in said.pop()
    assert not out.exists()
    process = fork.Process(target=write_and_die, args=('killed.png', root))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    to_coco(root, out)
    assert [i['file_name'] for i in json.loads(out.read_text())['images']] == [
        'killed.png'
    ]
    living.flush()
    said.clear()
    to_coco(root, out)
    assert len(json.loads(out.read_text())['images']) == 2
    assert not said


def test_an_empty_store_makes_no_file(tmp_path):
    teacher = Teacher('t.py', 't.pth', '0')
    PseudoLabelStore.create(tmp_path / 's', classes=['cat'], teacher=teacher)
    with pytest.raises(ValueError, match='s has no labels: fill it with mmcast label'):
        to_coco(tmp_path / 's', tmp_path / 's.json')
    assert not (tmp_path / 's.json').exists()


@pytest.mark.parametrize('layout', [None, 'shards'])
def test_a_store_comes_back_as_it_was(store, tmp_path, layout):
    """Also a box that is far from its mask, as after ``mmcast refine``."""
    one = store.read('a.jpg')
    store.write(
        *('a.jpg', one.size, one.labels, one.scores, one.bboxes + 15, one.masks),
        *(None, one.mask_qualities),
    )
    first = to_coco(store.root, tmp_path / 'first.json')
    found = from_coco(first, tmp_path / 'second', layout=layout)
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
    assert opened.layout == (layout or 'folder')
    assert opened.teacher.checkpoint == 'first.json'
    assert len(opened.teacher.digest) == 64


def test_a_killed_call_is_continued_in_shards(store, tmp_path):
    file = to_coco(store.root, tmp_path / 'first.json')
    from_coco(file, tmp_path / 'second', layout='shards')
    opened = PseudoLabelStore.open(tmp_path / 'second')
    (shard,) = (opened.root / 'shards').glob('*.tar')
    shard.unlink()
    process = fork.Process(target=_write_and_die_in, args=(opened,))
    process.start()
    process.join(60)
    assert opened.files.others() == ([], 1)
    from_coco(file, tmp_path / 'second')
    assert opened.files.others() == ([], 0)
    assert len(opened.missing(['b/0.png', 'a.jpg', 'empty.png'])) == 0
    assert len([*opened.entries()]) == 3


def _write_and_die_in(opened: PseudoLabelStore) -> None:
    opened.write('empty.png', (20, 30), [], [], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


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


def pictures(folder: Path, *names: str, size: tuple[int, int] = (30, 20)) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros(size[::-1], np.uint8))
    return folder


def test_what_changes_is_counted(tmp_path):
    """A box that is not the mask's, a lost polygon and a missing image."""
    coco = foreign(bbox=[2, 2, 26, 13])
    each = coco['annotations'][0]
    coco['annotations'] += [
        {**each, 'id': 1, 'segmentation': [SQUARE, [1, 2, 3, 4]], 'bbox': [2, 2, 9, 9]},
        {**each, 'id': 2, 'score': 0.25, 'bbox': [12, 2, 10, 10]},
    ]
    images = pictures(tmp_path / 'images', 'b.png')
    path = write(tmp_path / 'labels.json', coco)
    found = from_coco(path, tmp_path / 's', images=images)
    assert found.notes == {
        'masks that lost a bad polygon (annotation 1 of a.png has four numbers in a '
        "polygon's place, as a box has)": 1,
        'boxes replaced by those of their masks (IoU 0.5 or less)': 1,
        f'images not in {images} (a.png)': 1,
    }
    assert str(found).endswith(f'; images not in {images} (a.png): 1')
    boxes = PseudoLabelStore.open(tmp_path / 's').read('a.png').bboxes.tolist()
    assert boxes == [[2, 2, 28, 15], [2, 2, 11, 11], [2, 2, 28, 13]]


def test_wrong_image_folders_are_refused(tmp_path):
    path = write(tmp_path / 'labels.json', foreign())
    with pytest.raises(FileNotFoundError, match='nowhere is no folder: correct'):
        from_coco(path, tmp_path / 's', images=tmp_path / 'nowhere')
    coco = foreign()
    for image in coco['images']:
        image['file_name'] = Path(image['file_name']).name
    other = pictures(tmp_path / 'other', 'c.png')
    with pytest.raises(FileNotFoundError, match=r'none of the 2 images .* as a\.png'):
        from_coco(write(path, coco), tmp_path / 's', images=other)
    (tmp_path / 'tars').mkdir()
    with tarfile.open(tmp_path / 'tars/0.tar', 'w') as tar:
        tar.add(other / 'c.png', 'a.png')
    tars = f'tar://{tmp_path}/tars'
    found = from_coco(path, tmp_path / 'tarred', images=tars)
    assert found.notes == {f'images not in {tars} (b.png)': 1}
    pictures(other, 'b.png', size=(31, 20))
    with tarfile.open(tmp_path / 'tars/1.tar', 'w') as tar:
        tar.add(other / 'b.png', 'b.png')
    for images in (other, tars):
        with pytest.raises(ValueError, match=r'1 images .*b\.png is 31x20, not 30x20'):
            from_coco(path, tmp_path / 's', images=images)
    assert not (tmp_path / 's').exists()


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'tif'])
def test_sizes_are_those_that_training_loads(tmp_path, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    name = f'a.{kind}'
    Image.new('RGB', (30, 20)).save(tmp_path / name, exif=exif)
    content = np.fromfile(tmp_path / name, np.uint8)
    assert cv2.imdecode(content, cv2.IMREAD_COLOR).shape == (30, 20, 3)
    coco = foreign()
    coco['images'][0].update(file_name=name)
    coco['images'].pop()
    path = write(tmp_path / 'labels.json', coco)
    with pytest.raises(ValueError, match=r'is 20x30, not 30x20\. .* EXIF'):
        from_coco(path, tmp_path / 's', images=tmp_path)
    coco['images'][0].update(width=20, height=30)
    coco['annotations'][0]['segmentation'] = [SQUARE]
    found = from_coco(write(path, coco), tmp_path / 's', images=tmp_path)
    assert found.notes == {}


def test_another_image_folder_does_not_fill_the_same_store(tmp_path):
    coco = foreign()
    for image in coco['images']:
        image['file_name'] = f't/{Path(image["file_name"]).name}'
    path = write(tmp_path / 'labels.json', coco)
    images = pictures(tmp_path / 'images', 't/a.png', 't/b.png')
    from_coco(path, tmp_path / 's', images=images / 't')
    from_coco(path, tmp_path / 's', images=images / 't')
    with pytest.raises(ValueError, match='delete the folder'):
        from_coco(path, tmp_path / 's', images=images)
    assert len(list(PseudoLabelStore.open(tmp_path / 's').entries())) == 2
    from_coco(path, tmp_path / 'with', images=images)
    from_coco(path, tmp_path / 'with')  # its names fit


def test_images_that_would_share_an_entry_leave_no_store(tmp_path):
    coco = foreign()
    for image, name in zip(coco['images'], ['a.png', 'a.jpg'], strict=True):
        image['file_name'] = name
    path = write(tmp_path / 'labels.json', coco)
    with pytest.raises(ValueError, match='would share the pseudo-labels'):
        from_coco(path, tmp_path / 's')
    coco['images'].pop()
    assert from_coco(write(path, coco), tmp_path / 's').images == 1


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
        ({}, dict(classes=['cat', 'dog', 'cat']), "the class 'cat' is there twice"),
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
