"""Test label_images with real detectors, files, killed and parallel processes."""

import json
import pickle
import random
import runpy
import signal
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from gloo_ranks import fork, two_ranks
from label_runs import command, create, files, label
from mmdet.apis import inference_detector, init_detector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmcast.apis import Labeler, Views, label_images
from mmcast.apis.label_summary import summarise
from mmcast.apis.labeler import _instances
from mmcast.cli import main
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.transforms.loading import LoadPseudoAnnotations

TOOLS = Path(__file__).parents[2] / 'tools'
BENCHMARK = TOOLS / 'benchmarks/labelling.py'


@pytest.fixture(scope='module')
def grounded(teacher_world, tmp_path_factory):
    """Return teacher_world with a tiny Grounding-DINO and SAM 2 as its teacher."""
    config, checkpoint = runpy.run_path(BENCHMARK)['save_tiny_teacher'](
        tmp_path_factory.mktemp('grounded'), (48, 72)
    )
    teacher = init_detector(str(config), str(checkpoint), device='cpu', cfg_options={})
    world = SimpleNamespace(**vars(teacher_world))
    world.config, world.checkpoint = config, checkpoint
    world.classes = teacher.dataset_meta['classes']
    return world, teacher


@pytest.fixture(params=['mask_rcnn', 'grounded_sam2'])
def either(request):
    """Return a world and its teacher, one of two kinds."""
    if request.param == 'grounded_sam2':
        return request.getfixturevalue('grounded')
    return tuple(map(request.getfixturevalue, ('teacher_world', 'teacher')))


def test_entries_equal_the_detectors_predictions(either, tmp_path):
    teacher_world, teacher = either
    store = create(teacher_world, tmp_path / 's', min_score=0.0)
    label(teacher_world, teacher, store)
    for name in teacher_world.names[:3]:
        expected = inference_detector(
            teacher, str(teacher_world.img_root / name)
        ).pred_instances
        assert len(expected) > 1
        entry = store.read(name)
        assert entry.size == (48, 72)
        assert entry.labels.tolist() == expected.labels.tolist()
        np.testing.assert_allclose(entry.scores, expected.scores, atol=1e-6)
        np.testing.assert_allclose(entry.bboxes, expected.bboxes, atol=0.0051)
        masks = np.stack([mask_utils.decode(rle) for rle in entry.masks])
        assert (masks == expected.masks.numpy()).all()
        for key in ('class_scores', 'mask_qualities'):
            if 'mask_qualities' in expected:
                np.testing.assert_allclose(vars(entry)[key], expected[key], atol=1e-6)
            else:
                assert vars(entry)[key] is None


def test_summary_counts_old_and_new(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's')
    store.write(teacher_world.names[0], (48, 72), [], [], [], [])
    summary = label(teacher_world, teacher, store)
    assert (summary.images, summary.labeled_now) == (10, 9)
    entries = [store.read(name) for name in teacher_world.names]
    scores = np.concatenate([entry.scores for entry in entries])
    labels = np.concatenate([entry.labels for entry in entries])
    assert summary.used_per_class == {
        name: int((labels == i).sum()) for i, name in enumerate(teacher_world.classes)
    }
    oracle = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1], method='inverted_cdf')
    np.testing.assert_allclose(summary.score_quantiles, oracle, atol=0.00051)
    assert '10 images (9 labelled now)' in str(summary)
    assert (summary.used, summary.without_used) == (len(scores), 1)
    high = float(np.quantile(scores, 0.95))
    rule = LoadPseudoAnnotations(score_thr=high)
    summary = label(teacher_world, teacher, store, rule=rule)
    above = [int((entry.scores > high).sum()) for entry in entries]
    assert (summary.used, summary.without_used) == (sum(above), above.count(0))
    assert above.count(0) > 1
    assert summary.used_per_class == {
        name: int(((labels == i) & (scores > high)).sum())
        for i, name in enumerate(teacher_world.classes)
    }
    assert (
        f'{sum(above)} instances have a score above {high}, which training uses ('
    ) in str(summary)
    assert f'{above.count(0)} images have none of these. Stored are {len(scores)} ' in (
        str(summary)
    )


def test_images_without_instances(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's', min_score=0.999)
    summary = label(teacher_world, teacher, store, teacher_world.names[:2])
    assert summary.without_used == 2
    assert summary.score_quantiles == ()
    assert store.read(teacher_world.names[0]).labels.size == 0


def test_images_with_as_many_labels_as_are_kept_are_told(
    teacher_world, teacher, tmp_path
):
    summaries = [
        label(teacher_world, teacher, create(teacher_world, tmp_path / str(most), **of))
        for most, of in ((2, dict(max_instances=2)), (100, {}))
    ]
    assert summaries[0].full > 0
    told = f'{summaries[0].full} images have 2 of these, the most that are kept'
    assert told in str(summaries[0])
    assert summaries[1].full == 0
    assert 'the most that are kept' not in str(summaries[1])


def test_max_instances_keeps_the_best_scores(teacher_world, teacher, tmp_path):
    name = teacher_world.names[0]
    every, few = (
        create(teacher_world, tmp_path / 'a'),
        create(teacher_world, tmp_path / 'b', max_instances=2),
    )
    for store in (every, few):
        label(teacher_world, teacher, store, [name])
    assert few.read(name).scores.tolist() == every.read(name).scores.tolist()[:2]


def test_batches_and_workers_make_the_same_store(teacher_world, teacher, tmp_path):
    plain, fast = (
        create(teacher_world, tmp_path / 'a'),
        create(teacher_world, tmp_path / 'b'),
    )
    label(teacher_world, teacher, plain)
    # All images have one size here, so batches are not padded.
    label(teacher_world, teacher, fast, batch_size=4, num_workers=2)
    for name in teacher_world.names:
        a, b = plain.read(name), fast.read(name)
        assert a.labels.tolist() == b.labels.tolist()
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


def test_no_image_is_labelled_twice(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's')
    label(teacher_world, teacher, store, teacher_world.names[:4])
    times = {path: path.stat().st_mtime_ns for path in store.root.rglob('*.json')}
    assert label(teacher_world, teacher, store).labeled_now == 6
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())


def test_masks_are_never_copied_all_at_once(teacher_world, tmp_path):
    """Write 100 masks of a megapixel with memory for a few."""
    n, size = 100, (1000, 1000)
    masks = torch.zeros(n, *size, dtype=torch.bool)
    masks[:, 100:900, 200:800] = True
    sample = DetDataSample(metainfo=dict(ori_shape=size))
    sample.pred_instances = InstanceData(
        masks=masks,
        scores=torch.linspace(0.9, 0.1, n),
        labels=torch.zeros(n, dtype=torch.long),
        bboxes=torch.tensor([[200.0, 100, 800, 900]]).repeat(n, 1),
    )
    store = create(teacher_world, tmp_path / 's')
    tracemalloc.start()
    store.write('a.png', size, *_instances(store, sample))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * size[0] * size[1]
    assert summarise(store, ['a.png']).used_per_class['person'] == n


def test_masks_of_very_large_images_are_taken_smaller(
    teacher_world, teacher, tmp_path, monkeypatch
):
    """They are nearly those of the whole size, and fit the image."""
    whole = create(teacher_world, tmp_path / 'whole')
    label(teacher_world, teacher, whole)
    monkeypatch.setitem(_instances.__globals__, '_MOST_PIXELS', 48 * 72 // 4)
    store = create(teacher_world, tmp_path / 's')
    label(teacher_world, teacher, store)
    for name in teacher_world.names:
        one, other = whole.read(name), store.read(name)
        assert one.size == other.size == (48, 72)
        assert one.scores == pytest.approx(other.scores)
        overlap = np.diag(mask_utils.iou(one.masks, other.masks, [0] * len(one.masks)))
        assert np.median(overlap) > 0.8
        assert any(a != b for a, b in zip(one.masks, other.masks, strict=True))
        assert np.abs(one.bboxes - other.bboxes).max() <= 4


def label_in_child(world, teacher, store, names, images):
    # A forked child may not use the parent's OpenMP threads.
    torch.set_num_threads(1)
    label_images(teacher, names, images, store, num_workers=0, progress=False)


def test_killed_runs_continue(either, tmp_path):
    teacher_world, teacher = either
    images = tmp_path / 'img'
    images.mkdir()
    picture = cv2.imread(str(teacher_world.img_root / teacher_world.names[0]))
    names = [f'{i:03d}.png' for i in range(120)]
    for name in names:
        cv2.imwrite(str(images / name), picture)
    store = create(teacher_world, tmp_path / 's')
    times: dict = {}

    def start():
        process = fork.Process(
            target=label_in_child,
            args=(teacher_world, teacher, store, names, images),
            daemon=True,
        )
        process.start()
        return process

    for _ in range(10):
        process = start()
        # Kill it at a random moment of writing.
        goal = len(times) + random.randint(1, 8)
        deadline = time.monotonic() + 120
        while len(files(store)) < goal:
            assert process.is_alive()
            assert time.monotonic() < deadline, 'the child hangs'
            time.sleep(random.random() / 200)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert all(path.stat().st_mtime_ns == at for path, at in times.items())
        times = {path: path.stat().st_mtime_ns for path in store.root.rglob('*.json')}
        assert all(name in names for name, _ in store.entries())
    assert 10 < len(times) < 121
    process = start()
    process.join(120)
    assert process.exitcode == 0
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())
    assert store.missing(names) == []
    assert len({store.read(name).scores.tobytes() for name in names}) == 1


def test_two_runs_label_into_one_store_at_once(teacher_world, teacher, tmp_path):
    """Start both where both have found all images without labels."""
    alone = create(teacher_world, tmp_path / 'one')
    label(teacher_world, teacher, alone)
    barrier = fork.Barrier(2)

    def work():
        torch.set_num_threads(1)
        store = create(teacher_world, tmp_path / 'two')
        find_missing = store.missing

        def missing(names):
            found = find_missing(names)
            barrier.wait(60)
            return found

        store.missing = missing
        summary = label(teacher_world, teacher, store)
        assert (summary.images, summary.labeled_now) == (10, 10)

    processes = [fork.Process(target=work, daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert files(PseudoLabelStore.open(tmp_path / 'two')) == files(alone)


def test_two_ranks_write_the_same_store_as_one(either, tmp_path):
    teacher_world, teacher = either
    alone = create(teacher_world, tmp_path / 'one')
    label(teacher_world, teacher, alone)
    both = create(teacher_world, tmp_path / 'two')

    def work(rank):
        wrote = []
        write, both.write = both.write, lambda *a: (wrote.append(a[0]), write(*a))
        summary = label(teacher_world, teacher, both)
        assert (summary.images, summary.labeled_now) == (10, 10)
        assert wrote == teacher_world.names[rank::2]

    assert two_ranks(work, tmp_path) == [0, 0]
    assert files(both) == files(alone)


def test_command_labels_and_exports(teacher_world, teacher, tmp_path, monkeypatch):
    (tmp_path / 'list.txt').write_text('\n'.join(teacher_world.names[:3]))
    root = tmp_path / 's'
    command(
        *('label', teacher_world.config, teacher_world.checkpoint),
        *('--img-root', teacher_world.img_root, '--list', tmp_path / 'list.txt'),
        *('--store', root, '--device', 'cpu', '--num-workers', 0),
    )
    expected = create(teacher_world, tmp_path / 'expected')
    label(teacher_world, teacher, expected, teacher_world.names[:3])
    assert files(PseudoLabelStore.open(root)) == files(expected)
    command('to-coco', root, tmp_path / 'c.json')
    coco = json.loads((tmp_path / 'c.json').read_text())
    assert sorted(image['file_name'] for image in coco['images']) == sorted(
        teacher_world.names[:3]
    )


def test_exported_annotations_equal_the_entries(tmp_path, monkeypatch):
    """Read ids, boxes as corner and size, masks and scores with pycocotools."""
    store = PseudoLabelStore.create(
        tmp_path / 's', classes=['person', 'car'], teacher=Teacher('t.py', 't.pth', '0')
    )
    masks = np.zeros((2, 20, 30), np.uint8)
    masks[0, :5, :5] = masks[1, 3:20, 3:30] = 1
    rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in masks]
    boxes = [[0, 0, 5, 5], [3, 3, 30, 20]]
    store.write('town/a.png', (20, 30), [1, 0], [0.75, 0.25], boxes, rles)
    store.write('town/empty.jpg', (8, 9), [], [], [], [])
    command('to-coco', store.root, tmp_path / 'c.json')
    coco = COCO(tmp_path / 'c.json')
    assert [(i['file_name'], i['height'], i['width']) for i in coco.imgs.values()] == [
        ('town/a.png', 20, 30),
        ('town/empty.jpg', 8, 9),
    ]
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [a['category_id'] for a in annotations] == [2, 1]
    assert [a['area'] for a in annotations] == [25, 17 * 27]
    assert [a['bbox'] for a in annotations] == [[0, 0, 5, 5], [3, 3, 27, 17]]
    assert [a['score'] for a in annotations] == [0.75, 0.25]
    assert (coco.annToMask(annotations[1]) == masks[1]).all()
    names = [category['name'] for category in coco.loadCats([1, 2])]
    assert names == ['person', 'car']


@pytest.mark.parametrize('kind', ['mask_rcnn', 'grounded_sam2'])
def test_views_are_those_of_the_image_itself(kind, request, tmp_path, monkeypatch):
    """A mirrored view finds what the teacher finds in a mirrored file."""
    world, teacher = (
        request.getfixturevalue('grounded')
        if kind == 'grounded_sam2'
        else map(request.getfixturevalue, ('teacher_world', 'teacher'))
    )
    names = world.names[:3]
    for name in names:
        (tmp_path / 'mirrored' / name).parent.mkdir(parents=True, exist_ok=True)
        image = cv2.imread(str(world.img_root / name))
        cv2.imwrite(str(tmp_path / 'mirrored' / name), image[:, ::-1])
    plain, turned = (
        create(world, tmp_path / each, min_score=0.0) for each in ('plain', 'turned')
    )
    label(world, teacher, plain, names)
    label(SimpleNamespace(img_root=tmp_path / 'mirrored'), teacher, turned, names)
    seen = []
    merged = create(world, tmp_path / 's', min_score=0.0, views=['1', '1 mirrored'])
    monkeypatch.setitem(
        _instances.__globals__, 'merge', lambda views: seen.append(views) or views[0]
    )
    label(world, teacher, merged, names, views=Views(flip=True))
    for name, (first, second) in zip(names, seen, strict=True):
        assert len(first.scores) > 0
        np.testing.assert_allclose(first.scores, plain.read(name).scores, atol=1e-6)
        expected = turned.read(name)
        np.testing.assert_allclose(second.scores, expected.scores, atol=1e-6)
        assert second.labels == expected.labels.tolist()
        back = np.array(second.bboxes)[:, [2, 1, 0, 3]]
        back[:, [0, 2]] = expected.size[1] - back[:, [0, 2]]
        np.testing.assert_allclose(back, expected.bboxes, atol=0.01)
        for mine, other in zip(second.masks, expected.masks, strict=True):
            assert (mask_utils.decode(mine)[:, ::-1] == mask_utils.decode(other)).all()


def test_command_merges_views(teacher_world, tmp_path):
    command = ['label', teacher_world.config, teacher_world.checkpoint, '--img-root']
    command += [teacher_world.img_root, '--store', tmp_path / 's', '--num-workers', '0']
    main([*map(str, command), '--flip', '--scales', '1', '1.5'])
    store = PseudoLabelStore.open(tmp_path / 's')
    assert store.views == ('1', '1 mirrored', '1.5', '1.5 mirrored')
    assert store.missing(teacher_world.names) == []
    for name in teacher_world.names:
        found = store.read(name)
        assert all(mask['size'] == [48, 72] for mask in found.masks)
        assert (found.bboxes >= 0).all()
        assert (found.bboxes <= [72, 48, 72, 48]).all()


@pytest.mark.parametrize('flip', [False, True])
def test_a_head_without_boxes_gets_those_of_its_masks(
    flip, teacher_world, teacher, tmp_path, monkeypatch
):
    """SOLO's boxes are zeros, and training would drop such labels."""
    step = teacher.test_step

    def without_boxes(data):
        samples = step(data)
        for sample in samples:
            sample.pred_instances.bboxes.zero_()
        return samples

    monkeypatch.setattr(teacher, 'test_step', without_boxes)
    views = Views((1.0,), flip)
    store = create(teacher_world, tmp_path / 's', views=views.names())
    label(teacher_world, teacher, store, views=views)
    found = [store.read(name) for name in teacher_world.names]
    assert sum(len(entry.labels) for entry in found) > 20
    for entry in found:
        for mask, box in zip(entry.masks, entry.bboxes, strict=True):
            x, y, width, height = mask_utils.toBbox(mask)
            own = [x, y, x + width, y + height]
            if width:  # random masks may be empty
                assert flip or box.tolist() == own
                assert (box[2:] > box[:2]).all()


def test_labeler_is_a_function_that_can_be_pickled(teacher_world, teacher, tmp_path):
    """Rows of a batch are what label_images stores of this batch."""
    world = teacher_world
    store = create(world, tmp_path / 's')
    label(world, teacher, store, batch_size=3)
    (tmp_path / 'bad.png').write_bytes(b'no image')
    paths = [world.img_root / name for name in world.names[:3]]
    arrays = [cv2.imread(str(path)) for path in paths]
    two_files = Labeler((world.config, world.checkpoint), device='cpu')
    assert len(pickle.dumps(two_files)) < 2000
    for labeler in (pickle.loads(pickle.dumps(two_files)), Labeler(teacher)):
        *rows, bad = labeler([*paths, tmp_path / 'bad.png'])
        assert 'bad.png' in str(bad.error)
        assert bad.instances.labels == []
        other = create(world, tmp_path / f'{id(labeler)}')
        for name, row, alike in zip(world.names, rows, labeler(arrays), strict=False):
            assert row.error is None
            assert alike == row
            other.write(name, row.size, *row.instances)
        assert files(other).items() <= files(store).items()
        assert len(files(other)) == 3
    assert len(pickle.dumps(two_files)) < 2000


def test_jobs_of_an_array_fill_one_store_of_shards(teacher_world, teacher, tmp_path):
    """Kill one of three jobs; start it again, without a process group."""
    world = teacher_world
    expected = create(world, tmp_path / 'one')
    label(world, teacher, expected)

    def job(part):
        words = ['label', str(world.config), str(world.checkpoint), '--images']
        words += [str(world.img_root), '--store', str(tmp_path / 's'), '--num-workers']
        main([*words, '0', '--device', 'cpu', '--layout', 'shards', '--shard', part])

    job('1/3')
    process = fork.Process(target=job, args=('2/3',))
    process.start()
    while not list((tmp_path / 's/shards').glob('.open.*')):
        assert process.is_alive(), 'it was too fast to be killed'
        time.sleep(0.001)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    for part in ('3/3', '2/3', '20/20'):
        job(part)
    store = PseudoLabelStore.open(tmp_path / 's')
    assert store.missing(world.names) == []
    main(['store', 'verify', str(store.root)])
    main(['store', 'convert', str(store.root), str(tmp_path / 'back')])
    assert files(PseudoLabelStore.open(tmp_path / 'back')) == files(expected)
    for wrong in ('0/3', '4/3', '3', 'a/b', '1/-1'):
        with pytest.raises(ValueError, match='give I/N'):
            job(wrong)
