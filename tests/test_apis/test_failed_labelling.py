"""Test what label_images does with images, teachers, stores and ranks that fail."""

import copy
import json
import sys
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from gloo_ranks import two_ranks
from label_runs import command, create, files, label
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmcast.apis import Labeler, Views, label_images
from mmcast.apis import label as label_folder
from mmcast.apis.label_images import make_store
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher


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


@pytest.mark.parametrize('loader', ['LoadImageFromFile', LoadImageFromFile])
def test_16_bits_are_refused(teacher_world, teacher, tmp_path, monkeypatch, loader):
    """Label an image of 12 bits, which would be black."""
    first = teacher.cfg.test_dataloader.dataset.pipeline[0]
    monkeypatch.setitem(first, 'type', loader)
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


def test_store_of_other_views_is_refused(teacher_world, teacher, tmp_path):
    store = create(teacher_world, tmp_path / 's')
    label(teacher_world, teacher, store)
    with pytest.raises(ValueError, match=r"views \('1',\).*'1.5 mirrored'"):
        label(teacher_world, teacher, store, views=Views([1.5], flip=True))


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
        found, wanted = store.read(name).scores, expected.read(name).scores
        # Kernels of some processors depend on the number of images.
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_failures_do_not_keep_their_images_in_memory(
    teacher_world, teacher, tmp_path, monkeypatch
):
    """An error holds what the network had computed of its image."""
    test_step, computed, alive = teacher.test_step, [], []

    def step(data):
        if len(alive) in (1, 7):
            alive.append(sum(each() is not None for each in computed))
            return test_step(data)
        features = torch.zeros(9)
        computed.append(weakref.ref(features))
        alive.append(0)
        raise RuntimeError('Kernel size can not be greater than actual input size')

    monkeypatch.setattr(teacher, 'test_step', step)
    names = [f'{i}.png' for i in range(8)]
    (tmp_path / 'img').mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / 'img' / name), np.zeros((48, 72, 3), np.uint8))
    store = create(teacher_world, tmp_path / 's')
    options = dict(num_workers=0, progress=False)
    label_images(teacher, names, tmp_path / 'img', store, **options)
    assert store.missing(names) == []
    assert len(computed) == 6
    assert alive[-1] <= 2  # the first and the last one


def test_a_teacher_that_fails_on_all_is_a_bug(
    teacher_world, teacher, tmp_path, monkeypatch
):
    store = create(teacher_world, tmp_path / 's')
    step = odd_image(teacher.test_step, 'png', IndexError)
    monkeypatch.setattr(teacher, 'test_step', step)
    with pytest.raises(IndexError, match='Kernel size'):
        label(teacher_world, teacher, store)
    assert store.missing(teacher_world.names) == teacher_world.names


def test_a_call_after_a_kill_does_not_meet_all_odd_images_first(
    teacher_world, teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys.modules[label_images.__module__], '_MOST_ODD', 2)
    names, store = teacher_world.names, create(teacher_world, tmp_path / 's')
    odd = names[1::2]

    def killed_at(last):
        def step(data):
            path = data['data_samples'][0].img_path
            if path.endswith(last):
                raise KeyboardInterrupt
            if path.endswith(tuple(odd)):
                raise RuntimeError('Kernel size can not be greater than input size')
            return test_step(data)

        return step

    test_step = teacher.test_step
    monkeypatch.setattr(teacher, 'test_step', killed_at(names[7]))
    with pytest.raises(KeyboardInterrupt):
        label(teacher_world, teacher, store)
    assert store.missing(names) == names[7:]
    monkeypatch.setattr(teacher, 'test_step', killed_at('none'))
    assert label(teacher_world, teacher, store).labeled_now == len(names) - 7
    assert store.missing(names) == []


def test_a_part_of_odd_images_alone_is_no_bug(
    teacher_world, teacher, tmp_path, monkeypatch
):
    """As one job of an array may have it: the others have shown that the teacher works.

    Without it, the job would fail for ever.
    """
    names, store = teacher_world.names, create(teacher_world, tmp_path / 's')
    step = odd_image(teacher.test_step, names[1], RuntimeError)
    monkeypatch.setattr(teacher, 'test_step', step)
    with pytest.raises(RuntimeError, match='Kernel size'):
        label(teacher_world, teacher, store, names[1:2])
    label(teacher_world, teacher, store, names[:1])
    assert label(teacher_world, teacher, store, names[1:2]).stored == 0
    assert store.missing(names[:2]) == []


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


def test_command_errors_are_one_line(teacher_world, tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r'none\.pth does not exist: correct the path'
    ):
        command(
            *('label', teacher_world.config, 'none.pth', '--store', tmp_path / 's'),
            *('--img-root', teacher_world.img_root),
        )
    for option, message in (
        (('--batch-size', 0), 'batch_size is at least 1'),
        (('--num-workers', -1), 'num_workers at least 0'),
        (('--device', 'gpu0'), "device is 'gpu0': give cpu"),
        (('--device', 'cuda:99'), r'torch finds \d+ GPUs'),
    ):
        with pytest.raises(ValueError, match=message):
            command(
                *('label', teacher_world.config, teacher_world.checkpoint),
                *('--img-root', teacher_world.img_root, '--store', tmp_path / 's'),
                *option,
            )
    assert not (tmp_path / 's').exists()


def test_classes_that_cannot_be_mirrored_leave_no_store(teacher_world, tmp_path):
    """It would refuse the corrected command."""
    options = dict(classes=('left_eye', 'mouth'), views=Views(flip=True))
    with pytest.raises(ValueError, match='without mirrored views'):
        make_store(
            tmp_path / 's', teacher_world.config, teacher_world.checkpoint, **options
        )
    assert not (tmp_path / 's').exists()


def test_labels_of_another_config_of_the_checkpoint_are_told(
    teacher_world, tmp_path, monkeypatch
):
    """The checkpoint does not say how many instances the network may find, say."""
    config = Config.fromfile(teacher_world.config)
    config.model.init_cfg = dict(type='Pretrained', checkpoint='elsewhere.pth')
    config.model.train_cfg = None  # training alone needs it
    config.dump(tmp_path / 'same.py')
    config.model.test_cfg = dict(max_per_img=1)
    config.dump(tmp_path / 'other.py')
    said = []
    monkeypatch.setattr(
        *(sys.modules['mmcast.apis.label_images'], 'print_log'),
        lambda text, **_: said.append(text),
    )
    options = dict(classes=teacher_world.classes, views=Views())
    for name, warnings in ((teacher_world.config, 0), ('same.py', 0), ('other.py', 1)):
        store = make_store(
            *(tmp_path / 's', tmp_path / name, teacher_world.checkpoint), **options
        )
        assert len(said) == warnings
    assert 'teacher.py with other settings of the network' in said[0]
    assert len(store.teacher.settings) == 64
    assert store.teacher.config == teacher_world.config.name
    # A store from before says nothing of it.
    manifest = json.loads((store.root / 'manifest.json').read_text())
    del manifest['teacher']['settings']
    (store.root / 'manifest.json').write_text(json.dumps(manifest))
    make_store(*(store.root, tmp_path / 'same.py', teacher_world.checkpoint), **options)
    assert len(said) == 1
