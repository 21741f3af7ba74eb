"""Test label_images with real detectors, files, killed and parallel processes."""

import copy
import json
import pickle
import random
import runpy
import signal
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from gloo_ranks import fork, two_ranks
from mmdet.apis import inference_detector, init_detector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmcast.apis import Labeler, Views, label_images
from mmcast.apis import label as label_folder
from mmcast.apis.label_summary import summarise
from mmcast.apis.labeler import _instances
from mmcast.cli import main
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher

TOOLS = Path(__file__).parents[2] / 'tools'
BENCHMARK = TOOLS / 'benchmarks/labelling.py'


@pytest.fixture(scope='module')
def teacher(teacher_world):
    import mmcast  # noqa: F401

    return init_detector(
        str(teacher_world.config), str(teacher_world.checkpoint), device='cpu'
    )


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


def create(world, root, **arguments):
    return PseudoLabelStore.create(
        root,
        classes=world.classes,
        teacher=Teacher.from_files(world.config, world.checkpoint),
        **arguments,
    )


def label(world, teacher, store, names=None, **arguments):
    options = dict(num_workers=0, progress=False) | arguments
    names = world.names if names is None else names
    return label_images(teacher, names, world.img_root, store, **options)


def files(store):
    return {
        path.relative_to(store.root): path.read_bytes()
        for path in store.root.rglob('*.json')
        if path.name != 'manifest.json'
    }


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
    summary = label(teacher_world, teacher, store, score_thr=high)
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


def test_unreadable_images_raise_after_the_rest(teacher_world, teacher, tmp_path):
    root = tmp_path / 'img'
    root.mkdir()
    good = cv2.imread(str(teacher_world.img_root / teacher_world.names[0]))
    for name in ['a.png', 'd.png']:
        cv2.imwrite(str(root / name), good)
    (root / 'b.png').write_bytes(b'not an image')
    store = create(teacher_world, tmp_path / 's')
    for workers in (0, 1):
        with pytest.raises(ValueError, match='2 of 4 images cannot be read') as error:
            label_images(
                teacher,
                ['a.png', 'b.png', 'c.png', 'd.png'],
                root,
                store,
                num_workers=workers,
                progress=False,
            )
        assert str(root / 'b.png') in str(error.value)
        assert str(root / 'c.png') in str(error.value)
        assert '\n' not in str(error.value)
        assert store.missing(['a.png', 'd.png']) == []


def test_16_bits_are_refused(teacher_world, teacher, tmp_path):
    """Label an image of 12 bits, which would be black."""
    root = tmp_path / 'img'
    root.mkdir()
    dark = np.full((48, 72, 3), 4000, np.uint16)
    cv2.imwrite(str(root / 'a.png'), dark)
    store = create(teacher_world, tmp_path / 's')
    with pytest.raises(ValueError, match=r'1 of 1 images cannot be read: .* 16 bits'):
        label_images(teacher, ['a.png'], root, store, num_workers=0, progress=False)
    assert store.missing(['a.png']) == ['a.png']


def test_lost_folder_is_not_many_unreadable_images(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's')
    for workers in (0, 1):
        with pytest.raises(FileNotFoundError, match=r"img/' is gone, or empty"):
            label_images(
                teacher,
                ['a.png', 'b.png'],
                tmp_path / 'img',
                store,
                num_workers=workers,
                progress=False,
            )


def no_memory_on_cpu():
    torch.empty(1 << 55)


def no_memory_for_numpy():
    np.zeros(1 << 55)


def no_memory_on_gpu():
    raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')


@pytest.mark.parametrize(
    'allocate', [no_memory_on_cpu, no_memory_for_numpy, no_memory_on_gpu]
)
def test_out_of_memory_names_the_image(
    allocate, teacher_world, teacher, tmp_path, monkeypatch
):
    """Run out at the third image; the first two are kept, the rest comes later."""
    names = teacher_world.names
    test_step = teacher.test_step

    def test_step_of_a_large_image(data):
        if data['data_samples'][0].img_path.endswith(names[2]):
            allocate()
        return test_step(data)

    store = create(teacher_world, tmp_path / 's')
    with monkeypatch.context() as patch:
        patch.setattr(teacher, 'test_step', test_step_of_a_large_image)
        with pytest.raises(RuntimeError) as error:
            label(teacher_world, teacher, store)
    assert str(error.value) == (
        f'the teacher ran out of memory at {names[2]} (48x72 pixels, seen at 64x96): '
        'lower its batch_size or the size in its test pipeline, then start again; '
        'what is labelled is kept'
    )
    assert store.missing(names) == names[2:]
    assert label(teacher_world, teacher, store).labeled_now == len(names) - 2


@pytest.mark.parametrize('late', [False, True])
@pytest.mark.parametrize('kind', ['RuntimeError', 'AcceleratorError'])
def test_a_failed_gpu_ends_labelling(
    kind, late, teacher_world, teacher, tmp_path, monkeypatch
):
    """After it every image fails, but none of them is without instances."""
    if not hasattr(torch, 'AcceleratorError') and kind == 'AcceleratorError':
        pytest.skip('this torch has no such error')
    names = teacher_world.names
    text = 'CUDA error: device-side assert triggered' if kind == 'RuntimeError' else 'x'
    error = getattr(torch, kind, RuntimeError)(f'{text}\nSearch for it in the docs')
    place = teacher, 'test_step'
    if late:
        place = sys.modules[Labeler.__module__], '_instances'
    real, calls = getattr(*place), []

    def fail_from_third(*arguments):
        calls.append(arguments)
        if len(calls) > 2:
            raise error
        return real(*arguments)

    store = create(teacher_world, tmp_path / 's')
    with monkeypatch.context() as patch:
        patch.setattr(*place, fail_from_third)
        with pytest.raises(RuntimeError) as raised:
            label(teacher_world, teacher, store)
    assert str(raised.value) == (
        f'the GPU failed at {names[2]} (48x72 pixels, seen at 64x96): {text}. What is '
        'labelled is kept, and the same command continues; if it stops here again, '
        'leave this image out'
    )
    assert store.missing(names) == names[2:]
    assert label(teacher_world, teacher, store).labeled_now == len(names) - 2


class Buggy:
    """A transform with a bug."""

    def __call__(self, results: dict) -> dict:
        raise RuntimeError('a bug')


def test_pipeline_error_is_not_an_unreadable_image(
    teacher_world, teacher, tmp_path, monkeypatch
):
    cfg = copy.deepcopy(teacher.cfg)
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type=Buggy),
    ]
    monkeypatch.setattr(teacher, 'cfg', cfg)
    with pytest.raises(RuntimeError, match='a bug'):
        label(teacher_world, teacher, create(teacher_world, tmp_path / 's'))


def test_other_classes_are_refused(teacher_world, teacher, tmp_path):
    store = PseudoLabelStore.create(
        tmp_path / 's', classes=['dog'], teacher=Teacher('t.py', 't.pth', '0')
    )
    with pytest.raises(ValueError, match=r"'person'.*'dog'"):
        label(teacher_world, teacher, store)


def test_broken_entry_raises_and_is_labelled_again(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's')
    label(teacher_world, teacher, store)
    whole = files(store)
    path = store.path(teacher_world.names[3])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match='delete this file') as error:
        label(teacher_world, teacher, store)
    assert str(path) in str(error.value)
    path.unlink()
    assert label(teacher_world, teacher, store).labeled_now == 1
    assert files(store) == whole


def test_teacher_without_masks_raises(teacher_world):
    sample = SimpleNamespace(pred_instances=InstanceData(scores=torch.ones(1)))
    with pytest.raises(ValueError, match='predicts no masks'):
        Views().turns(teacher_world.classes)[0](sample)


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


def odd_image(test_step, name, kind):
    def step(data):
        if any(each.img_path.endswith(name) for each in data['data_samples']):
            raise kind('Kernel size can not be greater than actual input size')
        return test_step(data)

    return step


@pytest.mark.parametrize('batch_size', [1, 3])
def test_an_image_that_the_teacher_fails_on_has_no_labels(
    batch_size, teacher_world, teacher, tmp_path, monkeypatch
):
    names, store = teacher_world.names, create(teacher_world, tmp_path / 's')
    step = odd_image(teacher.test_step, names[1], RuntimeError)
    monkeypatch.setattr(teacher, 'test_step', step)
    label(teacher_world, teacher, store, batch_size=batch_size)
    assert len(store.read(names[1]).scores) == 0
    assert store.missing(names) == []
    expected = create(teacher_world, tmp_path / 'expected')
    monkeypatch.undo()
    label(teacher_world, teacher, expected)
    for name in names[:1] + names[2:]:
        assert (store.read(name).scores == expected.read(name).scores).all()


def test_a_teacher_that_fails_on_all_is_a_bug(
    teacher_world, teacher, tmp_path, monkeypatch
):
    store = create(teacher_world, tmp_path / 's')
    step = odd_image(teacher.test_step, 'png', IndexError)
    monkeypatch.setattr(teacher, 'test_step', step)
    with pytest.raises(IndexError, match='Kernel size'):
        label(teacher_world, teacher, store)
    assert store.missing(teacher_world.names) == teacher_world.names


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


def test_unreadable_image_raises_on_both_ranks(teacher_world, teacher, tmp_path):
    """Make image 1 unreadable, which rank 1 labels."""
    images = tmp_path / 'img'
    images.mkdir()
    for i in range(4):
        cv2.imwrite(str(images / f'{i}.png'), np.zeros((48, 72, 3), np.uint8))
    (images / '1.png').write_text('no image')
    names = [f'{i}.png' for i in range(4)]
    store = create(teacher_world, tmp_path / 's')

    def work(_):
        with pytest.raises(ValueError, match='1 of 4 images cannot be read'):
            label_images(teacher, names, images, store, num_workers=0, progress=False)

    assert two_ranks(work, tmp_path) == [0, 0]
    assert store.missing(names) == ['1.png']


def test_failure_of_one_rank_raises_on_both(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's')

    def work(rank):
        if rank == 1:
            teacher.test_step = None  # calling it raises a TypeError
        with pytest.raises(
            TypeError if rank == 1 else RuntimeError,
            match='not callable' if rank == 1 else 'Rank 1 failed: TypeError',
        ):
            label(teacher_world, teacher, store)

    assert two_ranks(work, tmp_path) == [0, 0]
    assert len(files(store)) == 5


def test_nodes_without_a_common_file_system_end(teacher_world, tmp_path, monkeypatch):
    """Give rank 1 another folder for the store, as on a disk of its own."""

    def work(rank):
        (tmp_path / f'node{rank}').mkdir()
        monkeypatch.chdir(tmp_path / f'node{rank}')
        teacher = teacher_world.config, teacher_world.checkpoint
        with pytest.raises(
            (RuntimeError, FileNotFoundError), match='There is no pseudo-label store'
        ):
            label_folder(*teacher, teacher_world.img_root, 'store', device='cpu')

    assert two_ranks(work, tmp_path) == [0, 0]


def command(*arguments):
    main([*map(str, arguments)])


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


def test_odd_images_of_a_folder_do_not_end_the_command(
    teacher_world, tmp_path, monkeypatch
):
    """One is torn, one is a strip, and two have one stem; the others have labels."""
    photos = tmp_path / 'photos'
    photos.mkdir()
    picture = cv2.imread(str(teacher_world.img_root / teacher_world.names[0]))
    for name in ('a.png', 'a.jpg', 'b.png'):
        cv2.imwrite(str(photos / name), picture)
    cv2.imwrite(str(photos / 'strip.png'), np.zeros((2, 4000, 3), np.uint8))
    (photos / 'torn.jpg').write_bytes((photos / 'a.jpg').read_bytes()[:200])
    root = tmp_path / 's'
    command(
        *('label', teacher_world.config, teacher_world.checkpoint),
        *('--img-root', photos, '--store', root, '--device', 'cpu'),
        *('--num-workers', 0),
    )
    store = PseudoLabelStore.open(root)
    missing = store.missing(['a.jpg', 'b.png', 'strip.png', 'torn.jpg'])
    assert {'a.jpg', 'b.png'}.isdisjoint(missing)
    assert 'torn.jpg' in missing


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


def test_command_errors_are_one_line(teacher_world, tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r'none\.pth does not exist: correct the path'
    ):
        command(
            *('label', teacher_world.config, 'none.pth', '--store', tmp_path / 's'),
            *('--img-root', teacher_world.img_root),
        )
    assert not (tmp_path / 's').exists()


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


def test_store_of_other_views_is_refused(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's')
    label(teacher_world, teacher, store)
    with pytest.raises(ValueError, match=r"views \('1',\).*'1.5 mirrored'"):
        label(teacher_world, teacher, store, views=Views([1.5], flip=True))


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


def test_labeler_is_a_function_that_can_be_pickled(teacher_world, teacher, tmp_path):
    """Rows of a batch are what label_images stores, one image at a time."""
    world = teacher_world
    store = create(world, tmp_path / 's')
    label(world, teacher, store)
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
