"""Test PseudoLabelStore and LoadPseudoAnnotations."""

import hashlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from pycocotools import mask as mask_utils

from mmcast.datasets.pseudo_label_store import (
    PseudoLabelStore,
    Teacher,
    find_shared,
)
from mmcast.datasets.rle import is_whole

CLASSES = ('person', 'car')
TEACHER = Teacher('teacher.py', 'teacher.pth', 'ab' * 32)


def rle(mask):
    return mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))


def rectangle(top, left, bottom, right, size=(20, 30)):
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


@pytest.fixture
def store(tmp_path):
    return PseudoLabelStore.create(tmp_path / 'store', classes=CLASSES, teacher=TEACHER)


def write(store, name, masks, scores, labels=None, **parts):
    store.write(
        name,
        (20, 30),
        labels or [0] * len(masks),
        scores,
        [[0, 0, 30, 20]] * len(masks),
        [rle(mask) for mask in masks],
        **parts,
    )


def test_an_entry_is_read_sorted_by_score(store):
    masks = [rectangle(0, 0, 5, 5), rectangle(3, 3, 20, 30)]
    write(store, 'town/a.png', masks, [0.3, 0.75], [1, 0])
    assert (store.root / 'town/a.json').is_file()
    entry = PseudoLabelStore.open(store.root).read('town/a.png')
    assert entry.size == (20, 30)
    assert entry.labels.tolist() == [0, 1]
    assert entry.scores.dtype == np.float32
    assert entry.scores.tolist() == [0.75, np.float32(0.3)]
    for found, mask in zip(entry.masks, masks[::-1], strict=True):
        assert (mask_utils.decode(found) == mask).all()


def test_an_entry_without_instances(store):
    write(store, 'a.png', [], [])
    entry = store.read('a.png')
    assert entry.bboxes.shape == (0, 4)
    assert entry.masks == []


OLD = """{"image":"a.png","size":[2,3],"instances":[{"label":1,"score":0.9,
"bbox":[0,0,2,2],"segmentation":{"size":[2,3],"counts":"042"}}]}"""


def test_a_file_without_the_parts_of_the_score_is_read(store):
    (store.root / 'a.json').write_text(OLD)
    entry = store.read('a.png')
    assert entry.scores.tolist() == [np.float32(0.9)]
    assert mask_utils.decode(entry.masks[0]).tolist() == [[1, 1, 0], [1, 1, 0]]
    assert entry.class_scores is entry.mask_qualities is None


def test_class_score_and_mask_quality_stay_with_their_instance(store):
    masks = [rectangle(0, 0, 5, 5), rectangle(5, 5, 20, 30)]
    parts = dict(class_scores=[0.5, 1.0], mask_qualities=[0.6, 0.75])
    write(store, 'a.png', masks, [0.3, 0.75], [1, 0], **parts)
    entry = store.read('a.png')
    assert entry.labels.tolist() == [0, 1]
    assert entry.class_scores.tolist() == [1, 0.5]
    assert entry.mask_qualities.dtype == np.float32
    assert entry.mask_qualities.tolist() == [0.75, np.float32(0.6)]
    write(store, 'b.png', masks, [0.3, 0.75], mask_qualities=[0.6, 0.7])
    assert store.read('b.png').class_scores is None
    with pytest.raises(ValueError, match=r'a mask_quality is outside \[0, 1\]'):
        write(store, 'c.png', masks, [0.3, 0.75], mask_qualities=[0.6, 1.1])


def test_loading_by_class_score_and_mask_quality(store):
    masks = [rectangle(0, 0, 5, 5), rectangle(5, 5, 9, 9), rectangle(10, 9, 20, 30)]
    parts = dict(class_scores=[0.9, 0.8, 0.7], mask_qualities=[0.7, 0.8, 0.9])
    write(store, 'a.png', masks, [0.6, 0.5, 0.4], [0, 1, 0], **parts)

    def areas(**options):
        return load(store, **options)['gt_masks'].masks.sum((1, 2)).tolist()

    assert areas() == [25, 16, 210]
    assert areas(class_score_thr=0.75) == [25, 16]
    assert areas(mask_quality_thr=0.75) == [16, 210]
    assert areas(mask_quality_thr=0.75, class_score_thr=0.75) == [16]
    write(store, 'a.png', masks, [0.6, 0.5, 0.4])
    with pytest.raises(ValueError, match='remove mask_quality_thr'):
        load(store, mask_quality_thr=0.75)


def test_missing_keeps_the_order_and_checks_subfolders(store):
    write(store, 'town/b.png', [], [])
    write(store, 'c.png', [], [])
    assert store.missing(['z.png', 'town/b.png', 'a.png', 'c.png']) == [
        'z.png',
        'a.png',
    ]


def test_missing_does_not_ask_for_each_file(store, monkeypatch):
    names = [f't{i % 100}/{i}.png' for i in range(1000)]
    asked = []
    for name in ('stat', 'lstat', 'open', 'access', 'scandir', 'listdir'):
        whole = getattr(os, name)

        def counted(*args, whole=whole, **kwargs):
            asked.append(args)
            return whole(*args, **kwargs)

        monkeypatch.setattr(os, name, counted)
    assert store.missing(names) == names
    assert 0 < len(asked) < 10


@pytest.mark.parametrize('name', ['../a.png', '/a.png', 'a/../../b.png', '', '.'])
def test_names_outside_the_image_root_are_refused(store, name):
    with pytest.raises(ValueError, match='is not below the image folder'):
        store.missing([name])
    with pytest.raises(ValueError, match='is not below the image folder'):
        write(store, name, [], [])


def test_names_that_would_share_a_file_are_refused(store):
    with pytest.raises(ValueError, match=r'a.png and a.jpg would share'):
        store.missing(['a.png', 'a.jpg'])
    with pytest.raises(ValueError, match=r'would overwrite manifest.json'):
        store.missing(['manifest.png'])
    write(store, 'a.png', [], [])
    with pytest.raises(ValueError, match=r"it belongs to image 'a.png'"):
        store.read('a.jpg')


def test_digest_is_sha256_of_the_checkpoint(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / 'x.pth').write_bytes(content)
    teacher = Teacher.from_files('configs/x.py', tmp_path / 'x.pth')
    assert teacher == Teacher('x.py', 'x.pth', hashlib.sha256(content).hexdigest())


def test_create_opens_a_store_of_the_same_kind(store):
    write(store, 'a.png', [], [])
    moved = Teacher('other_name.py', 'moved.pth', TEACHER.digest)
    again = PseudoLabelStore.create(store.root, classes=CLASSES, teacher=moved)
    assert again.missing(['a.png']) == []
    assert again.teacher == TEACHER


@pytest.mark.parametrize(
    ('change', 'sides'),
    [
        (dict(classes=('person', 'bus')), ['car', 'bus']),
        (dict(classes=('car', 'person')), [r"\('person', 'car'\)"]),
        (dict(teacher=Teacher('t.py', 't.pth', 'cd' * 32)), ['abab', 'cdcd']),
        (dict(min_score=0.2), ['0.05', '0.2']),
        (dict(max_instances=7), ['100', '7']),
    ],
)
def test_store_of_another_kind_raises_with_both_values(store, change, sides):
    arguments = dict(classes=CLASSES, teacher=TEACHER) | change
    before = (store.root / 'manifest.json').read_bytes()
    for side in sides:
        with pytest.raises(ValueError, match=side):
            PseudoLabelStore.create(store.root, **arguments)
    with pytest.raises(ValueError, match='delete the folder, or point `store`'):
        PseudoLabelStore.create(store.root, **arguments)
    assert (store.root / 'manifest.json').read_bytes() == before


def test_foreign_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no pseudo-label store'):
        PseudoLabelStore.open(tmp_path / 'none')
    (tmp_path / 'foreign').mkdir()
    (tmp_path / 'foreign/photo.png').write_text('x')
    with pytest.raises(ValueError, match='holds files but no manifest'):
        PseudoLabelStore.create(tmp_path / 'foreign', classes=CLASSES, teacher=TEACHER)
    for content in ['{"name": "a web app"}', '{', '[]', '"x"']:
        (tmp_path / 'foreign/manifest.json').write_text(content)
        with pytest.raises(ValueError, match='not the manifest of a pseudo-label'):
            PseudoLabelStore.open(tmp_path / 'foreign')


def test_broken_entries_raise_with_file_and_remedy(store):
    write(store, 'a.png', [rectangle(0, 0, 5, 5), rectangle(1, 1, 9, 9)], [0.9, 0.8])
    path = store.path('a.png')
    whole = path.read_text()

    def broken(change):
        entry = json.loads(whole)
        change(entry)
        return json.dumps(entry)

    first = 'instances'
    for content in [
        whole[: len(whole) // 2],
        '',
        '[]',
        '{"shapes": []}',
        broken(lambda e: e.update(image='b.png')),
        broken(lambda e: e.update(size=[30, 20])),
        broken(lambda e: e[first][0].update(label=2)),
        broken(lambda e: e[first][0].update(label='car')),
        broken(lambda e: e[first][0].update(score=float('nan'))),
        broken(lambda e: e[first][0].update(bbox=[1, 2, 3])),
        broken(lambda e: e[first][0]['segmentation'].update(counts='zzz')),
        broken(lambda e: e[first][0].pop('segmentation')),
    ]:
        assert content != whole
        path.write_text(content)
        with pytest.raises(
            ValueError, match='delete this file and start again'
        ) as error:
            store.read('a.png')
        assert str(path) in str(error.value)
        assert '\n' not in str(error.value)


def test_is_whole_detects_incomplete_run_lengths():
    random = np.random.default_rng(0)
    for density in [0, 0.01, 0.5, 0.99, 1]:
        for size in [(1, 1), (7, 5), (64, 33), (700, 900)]:
            mask = rle(random.random(size) < density)
            text = mask['counts'].decode()
            whole = {'size': list(size), 'counts': text}
            assert is_whole(whole)
            assert not is_whole({**whole, 'size': [size[0], size[1] + 1]})
            assert not is_whole({**whole, 'counts': text[:-1]})
            assert not is_whole({**whole, 'counts': text + '5'})


def test_write_refuses_invalid_instances(store):
    with pytest.raises(ValueError, match='outside the 2 classes'):
        write(store, 'a.png', [rectangle(0, 0, 5, 5)], [0.5], [2])
    with pytest.raises(ValueError, match='does not cover'):
        write(store, 'a.png', [rectangle(0, 0, 5, 5, (20, 31))], [0.5])
    assert list(store.root.iterdir()) == [store.root / 'manifest.json']


def test_only_old_temporary_files_are_removed(store):
    write(store, 'town/a.png', [], [])
    fresh = store.root / 'town/.b.json.abc'
    stale = store.root / 'town/.c.json.abc'
    for path in (fresh, stale):
        path.write_text('{')
    os.utime(stale, (0, 0))
    store.remove_leftovers()
    assert fresh.exists()
    assert not stale.exists()
    assert store.missing(['town/a.png', 'town/b.png']) == ['town/b.png']


def write_forever(store, start):
    one = rle(np.eye(300))
    for i in itertools.count(start):
        boxes = [[0, 0, 9, 9]] * 50
        name = f't/{i}.png'
        store.write(name, (300, 300), [0] * 50, [0.5] * 50, boxes, [one] * 50)


def test_a_killed_writer_leaves_no_incomplete_entry(store):
    """Send SIGKILL at random moments to a process that writes as fast as it can."""
    for start in range(0, 5_000_000, 1_000_000):
        process = multiprocessing.get_context('fork').Process(
            target=write_forever, args=(store, start), daemon=True
        )
        process.start()
        deadline = time.monotonic() + 60
        while not store.path(f't/{start}.png').exists():
            assert time.monotonic() < deadline, 'the child hangs'
            time.sleep(0.001)
        time.sleep(random.random() / 20)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    entries = dict(store.entries())
    assert len(entries) >= 5
    for name, entry in entries.items():
        assert len(entry.labels) == len(store.read(name).labels) == 50


def test_entries_are_sorted_and_checked(store):
    write(store, 'town/b.png', [rectangle(0, 0, 5, 5)], [0.5])
    write(store, 'a.png', [], [])
    assert [name for name, _ in store.entries()] == ['a.png', 'town/b.png']
    (store.root / 'a.json').write_text('[]')
    with pytest.raises(ValueError, match=r'a\.json is not a pseudo-label file'):
        list(store.entries())


def load(store, name='a.png', img_shape=(20, 30), **arguments):
    options = dict(store=str(store.root), skip_empty=False) | arguments
    transform = TRANSFORMS.build(dict(type='LoadPseudoAnnotations', **options))
    return transform(dict(img_name=name, img_shape=img_shape))


def test_loading_removes_overlap_from_lower_scores(store):
    best = rectangle(0, 0, 10, 10)
    partly = rectangle(5, 0, 15, 10)
    covered = rectangle(2, 2, 6, 6)
    faint = rectangle(15, 15, 20, 20)
    write(store, 'a.png', [covered, partly, best, faint], [0.5, 0.6, 0.9, 0.3])
    results = load(store)
    # The faint mask's score equals the threshold; only higher scores are kept.
    assert (results['gt_masks'].masks == [best, partly & ~best & 1]).all()
    assert results['gt_bboxes'].numpy().tolist() == [[0, 0, 10, 10], [0, 10, 10, 15]]
    assert results['gt_masks'].masks.sum(0).max() == 1
    overlapping = load(store, remove_overlap=False, score_thr=0.1)
    assert (overlapping['gt_masks'].masks == [best, partly, covered, faint]).all()


def test_dropped_small_masks_take_no_pixels_from_others(store):
    small, large = rectangle(0, 0, 2, 2), rectangle(0, 0, 9, 9)
    write(store, 'a.png', [small, large], [0.9, 0.8], [0, 1])
    assert load(store)['gt_masks'].masks.sum((1, 2)).tolist() == [4, 77]
    results = load(store, min_area=5)
    assert results['gt_bboxes_labels'].tolist() == [1]
    assert (results['gt_masks'].masks == [large]).all()


def test_loading_drops_what_a_better_mask_leaves_little_of(store):
    """Of 100 pixels the second mask loses 50, and the third all but a rim of 36."""
    best = rectangle(0, 0, 10, 10)
    half = rectangle(5, 0, 15, 10)
    around = rectangle(0, 0, 11, 11) & ~half
    write(store, 'a.png', [best, half, around], [0.9, 0.8, 0.7])

    def areas(**options):
        return load(store, **options)['gt_masks'].masks.sum((1, 2)).tolist()

    rim = int((around & ~best).sum())
    assert areas() == areas(min_left=0.0) == [100, 50, rim]
    assert areas(min_left=0.5) == [100, 50]
    assert areas(min_left=0.51) == [100]
    assert areas(min_left=0.8, remove_overlap=False) == [100, 100, around.sum()]
    with pytest.raises(ValueError, match=r'min_left is 1\.5: give a number'):
        load(store, min_left=1.5)


def test_loading_gives_the_types_of_load_annotations(store):
    """Compare with mmdet's own transform on the same instances."""
    masks = [rectangle(0, 0, 10, 10), rectangle(12, 3, 20, 30)]
    write(store, 'a.png', masks, [0.9, 0.8], [1, 0])
    write(store, 'empty.png', [], [])
    stock = TRANSFORMS.build(
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
    )
    for name in ['a.png', 'empty.png']:
        entry = store.read(name)
        ours = load(store, name)
        instances = [
            dict(bbox=box, bbox_label=label, ignore_flag=0, mask={**rle_})
            for box, label, rle_ in zip(
                ours['gt_bboxes'].numpy().tolist(),
                entry.labels.tolist(),
                entry.masks,
                strict=True,
            )
        ]
        theirs = stock(
            dict(instances=instances, img_shape=(20, 30), ori_shape=(20, 30))
        )
        for key in ['gt_bboxes_labels', 'gt_ignore_flags']:
            assert ours[key].dtype == theirs[key].dtype
            assert ours[key].tolist() == theirs[key].tolist()
        assert type(ours['gt_bboxes']) is type(theirs['gt_bboxes'])
        assert ours['gt_bboxes'].tensor.dtype == theirs['gt_bboxes'].tensor.dtype
        assert ours['gt_bboxes'].tensor.shape == theirs['gt_bboxes'].tensor.shape
        assert isinstance(ours['gt_masks'], type(theirs['gt_masks']))
        assert ours['gt_masks'].masks.dtype == theirs['gt_masks'].masks.dtype
        assert (ours['gt_masks'].masks == theirs['gt_masks'].masks).all()


def test_images_without_labels_are_skipped(store):
    """Use images with no label, with only low scores, and with only small masks."""
    mask = rectangle(0, 0, 5, 5)
    write(store, 'none.png', [], [])
    write(store, 'faint.png', [mask], [0.3])
    write(store, 'small.png', [mask], [0.9])
    for name, options in (
        ('none.png', {}),
        ('faint.png', {}),
        ('small.png', dict(min_area=26)),
    ):
        assert load(store, name, skip_empty=True, **options) is None
        kept = load(store, name, **options)
        assert len(kept['gt_masks']) == len(kept['gt_bboxes']) == 0
    assert len(load(store, 'small.png', skip_empty=True)['gt_masks']) == 1


def test_boxes_come_from_masks_or_from_the_store(store):
    """Let the first mask cover part of the second; stored boxes must not change."""
    masks = [rectangle(0, 0, 10, 10), rectangle(5, 0, 15, 10)]
    boxes = [[1.0, 2.0, 12.0, 11.0], [3.0, 4.0, 14.0, 18.5]]
    store.write('a.png', (20, 30), [0, 1], [0.9, 0.8], boxes, [rle(m) for m in masks])

    def found(**options):
        return load(store, **options)['gt_bboxes'].numpy().tolist()

    assert found() == [[0, 0, 10, 10], [0, 10, 10, 15]]
    assert found(boxes='stored', remove_overlap=False) == boxes
    assert found(boxes='stored', score_thr=0.85) == boxes[:1]
    with pytest.raises(ValueError, match="boxes is 'best'"):
        load(store, boxes='best')


def test_images_that_share_an_entry_are_found():
    names = [
        'a.png',
        'a.jpg',
        'b/a.png',
        'none',
        'v1.0/x',
        'v1.0/y',
        'a.b.png',
        'a.bmp',
    ]
    assert find_shared(names) == ['a.jpg', 'a.bmp']


def test_loading_errors_have_a_remedy(store, tmp_path):
    write(store, 'a.png', [], [])
    with pytest.raises(ValueError, match=r'21x30 pixels.* 20x30'):
        load(store, img_shape=(21, 30))
    with pytest.raises(FileNotFoundError, match=r'b.png has no .*PseudoLabelHook'):
        load(store, 'b.png')
    with pytest.raises(ValueError, match=r"\('person', 'car'\).*\('dog',\)"):
        load(store, classes=['dog'])
    with pytest.raises(ValueError, match=r'keeps only scores from 0.05'):
        load(store, score_thr=0.01)
    transform = TRANSFORMS.build(
        dict(type='LoadPseudoAnnotations', store=str(tmp_path / 'none'))
    )
    with pytest.raises(FileNotFoundError, match='make one with mmcast label'):
        transform(dict(img_name='a.png', img_shape=(20, 30)))
    with pytest.raises(ValueError, match='use ImageListDataset'):
        transform(dict(img_shape=(20, 30)))
    transform = TRANSFORMS.build(dict(type='LoadPseudoAnnotations'))
    with pytest.raises(ValueError, match='has no store: add PseudoLabelHook'):
        transform(dict(img_name='a.png', img_shape=(20, 30)))
