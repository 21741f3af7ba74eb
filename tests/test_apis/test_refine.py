"""Test refine with a tiny SAM 2, real stores and images, and a killed process."""

import json
import signal
import sys
import tarfile
import time

import cv2
import numpy as np
import pytest
import torch
from gloo_ranks import fork
from mmengine.config import Config
from pycocotools import mask as mask_utils

from mmcast.apis import refine
from mmcast.cli import main
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.models.segmenters import Sam2Segmenter
from mmcast.testing import SAM2

SIZE = (48, 72)
NAMES = [f'town/{i:02d}.png' for i in range(8)]
EMPTY = NAMES[3]


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """Save a tiny SAM 2 with random weights, and its config."""
    root = tmp_path_factory.mktemp('sam2')
    torch.manual_seed(0)
    torch.save(Sam2Segmenter(SAM2).sam2.state_dict(), root / 'sam2.pth')
    segmenter = dict(
        type='Sam2Segmenter',
        arch=SAM2,
        init_cfg=dict(type='Pretrained', checkpoint=str(root / 'sam2.pth')),
    )
    Config(dict(model=dict(segmenter=segmenter))).dump(root / 'sam2.py')
    return str(root / 'sam2.py')


@pytest.fixture(params=['folder', 'shards'])
def store(request, tmp_path):
    """Write images and labels of rectangles; one image has none."""
    random = np.random.default_rng(0)
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=['car', 'person'],
        teacher=Teacher('teacher.py', 'teacher.pth', 'abc'),
        layout=request.param,
    )
    (tmp_path / 'img/town').mkdir(parents=True)
    for name in NAMES:
        image = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'img' / name), image)
        masks = np.zeros((0 if name == EMPTY else 3, *SIZE), np.uint8)
        for mask in masks[:2]:  # the third has no pixel
            top, left = random.integers(0, 30, 2)
            mask[top : top + 12, left : left + 20] = 1
        count = len(masks)
        store.write(
            name,
            SIZE,
            random.integers(0, 2, count),
            np.linspace(0.9, 0.5, count),
            random.integers(0, 40, (count, 4)),
            [mask_utils.encode(np.asfortranarray(mask)) for mask in masks],
            np.linspace(0.8, 0.7, count),
        )
    store.flush()
    return store


def run(store, config, out, **options):
    images = store.root.parent / 'img'
    return refine(store.root, images, out, with_=config, device='cpu', **options)


def content(root):
    return {
        name: repr(labels) for name, labels in PseudoLabelStore.open(root).entries()
    }


@pytest.mark.parametrize('recipe', ['s4m', 'samrefiner'])
def test_masks_are_new_and_the_rest_stays(store, config, tmp_path, recipe):
    before = content(store.root)
    summary = run(store, config, tmp_path / 'new', recipe=recipe)
    assert (summary.images, summary.labeled_now, summary.stored) == (8, 8, 21)
    assert content(store.root) == before
    new = PseudoLabelStore.open(tmp_path / 'new')
    assert new.layout == store.layout
    assert new.teacher.config == f'teacher.py refined by sam2.py ({recipe})'
    assert new.read(EMPTY).masks == []
    for name in NAMES:
        ours, old = new.read(name), store.read(name)
        for key in ('size', 'labels', 'scores', 'bboxes', 'class_scores'):
            np.testing.assert_array_equal(vars(ours)[key], vars(old)[key])
        if name != EMPTY:
            assert ours.masks[:2] != old.masks[:2]
            assert ours.masks[2] == old.masks[2]
            assert (ours.mask_qualities[:2] > 0).all()
            assert ours.mask_qualities[2] == 0
    # Points of an image do not depend on the others.
    (tmp_path / 'tars').mkdir()
    with tarfile.open(tmp_path / 'tars/0.tar', 'w') as tar:
        tar.add(tmp_path / 'img', '.')
    for part, images in (('2/2', 'img'), ('1/2', 'tars')):
        root = f'{"tar://" if images == "tars" else ""}{tmp_path / images}'
        out = tmp_path / 'parts'
        options = dict(with_=config, device='cpu', recipe=recipe, shard=part)
        refine(store.root, root, out, **options)
    assert content(tmp_path / 'parts') == content(tmp_path / 'new')
    other = {'s4m': 'samrefiner', 'samrefiner': 's4m'}[recipe]
    with pytest.raises(ValueError, match='teacher checkpoint digest'):
        run(store, config, tmp_path / 'new', recipe=other)


def test_the_segmenter_of_a_fine_tuning(store, config, tmp_path):
    """Its config names the weights that the training started from."""
    work = tmp_path / 'work'  # mim's --work-dir need not have the config's name
    work.mkdir()
    torch.manual_seed(1)
    tuned = Sam2Segmenter(SAM2)
    torch.save(tuned.state_dict(), work / 'segmenter.pth')
    cfg = Config.fromfile(config)
    cfg.model.type = 'BoxPromptedSegmentor'
    cfg.dump(work / 'tuned.py')
    with pytest.raises(ValueError, match=r'give the segmenter\.pth that it leaves'):
        run(store, str(work / 'tuned.py'), tmp_path / 'new')
    run(store, str(work / 'segmenter.pth'), tmp_path / 'new')
    run(store, config, tmp_path / 'start')
    assert content(tmp_path / 'new') != content(tmp_path / 'start')
    (work / 'tuned.py').unlink()
    with pytest.raises(ValueError, match=r'trained with beside it.* 0 files \*\.py'):
        run(store, str(work / 'segmenter.pth'), tmp_path / 'other')


def test_labels_of_other_settings_are_told(store, config, tmp_path, monkeypatch):
    """The teacher labelled again, with another test pipeline of the same checkpoint."""
    said = []
    monkeypatch.setattr(
        *(sys.modules['mmcast.apis.refine'], 'print_log'),
        lambda text, **_: said.append(text),
    )
    for settings in ('one', 'one', 'two'):
        path = store.root / 'manifest.json'
        manifest = json.loads(path.read_text())
        manifest['teacher']['settings'] = settings
        path.write_text(json.dumps(manifest))
        run(store, config, tmp_path / 'new')
    assert ['What is refined stays' in text for text in said] == [False, True]
    assert 'store has labels of teacher.py with other settings' in said[1]


def test_parts_depend_on_names_alone(store, config, tmp_path):
    """An image that comes between two jobs moves no other one."""
    images = store.root.parent / 'img'
    options = dict(with_=config, device='cpu')
    refine(store.root, images, tmp_path / 'new', shard='1/2', **options)
    first = 'town/0.png'
    cv2.imwrite(str(images / first), np.zeros((*SIZE, 3), np.uint8))
    store.write(first, SIZE, [], [], np.zeros((0, 4)), [])
    store.flush()
    refine(store.root, images, tmp_path / 'new', shard='2/2', **options)
    assert PseudoLabelStore.open(tmp_path / 'new').missing(NAMES) == []


def test_a_killed_run_continues(store, config, tmp_path):
    images = str(store.root.parent / 'img')
    words = ['refine', str(store.root), '--images', images, '--with', config]
    words += ['--recipe', 'samrefiner', '--device', 'cpu', '--out']

    def work():
        torch.set_num_threads(1)
        main([*words, str(tmp_path / 'killed')])

    process = fork.Process(target=work, daemon=True)
    process.start()
    folder = tmp_path / 'killed'
    pattern = 'town/*.json' if store.layout == 'folder' else 'shards/.open.*'
    while not list(folder.glob(pattern)):
        assert process.is_alive(), 'it was too fast to be killed'
        time.sleep(0.001)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    main([*words, str(folder)])
    main([*words, str(tmp_path / 'whole')])
    assert content(folder) == content(tmp_path / 'whole')


def test_out_of_memory_names_the_image(store, config, tmp_path, monkeypatch):
    """The rest comes with fewer masks at a time."""

    def best_of_three(self, encoded, prompts, size):
        if len(prompts.points) > 1:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried 2 GiB')
        return whole(self, encoded, prompts, size)

    whole = Sam2Segmenter.best_of_three
    monkeypatch.setattr(Sam2Segmenter, 'best_of_three', best_of_three)
    with pytest.raises(RuntimeError, match=r'at town/0\d\.png with 32 masks: lower'):
        run(store, config, tmp_path / 'new')
    assert run(store, config, tmp_path / 'new', chunk=1).images == 8


def test_wrong_images_and_arguments_are_told(store, config, tmp_path, capsys):
    images = store.root.parent / 'img'
    for inside in (store.root, store.root / 'refined'):
        with pytest.raises(ValueError, match=r'is inside the store .* a path outside'):
            run(store, config, inside)
    assert not (store.root / 'refined').exists()
    with pytest.raises(ValueError, match='give s4m or samrefiner'):
        run(store, config, tmp_path / 'new', recipe='sam')
    with pytest.raises(ValueError, match='sam2-tiny'):
        run(store, 'sam3', tmp_path / 'new')
    with pytest.raises(ValueError, match="device is 'gpu': give cpu"):
        refine(store.root, images, tmp_path / 'new', with_=config, device='gpu')
    with pytest.raises(FileNotFoundError, match=r'sam2\.1-hiera-large.*hf download'):
        run(store, 'sam2', tmp_path / 'new')
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        refine(store.root, 'nowhere', tmp_path / 'new', with_=config)
    empty = PseudoLabelStore.create(
        tmp_path / 'empty', classes=['car'], teacher=Teacher('t.py', 't.pth', '0')
    )
    with pytest.raises(ValueError, match='empty has no labels'):
        refine(empty.root, images, tmp_path / 'new', with_=config)
    assert not (tmp_path / 'new').exists()
    (images / NAMES[0]).write_bytes(b'nothing')
    summary = run(store, config, tmp_path / 'new')
    assert (summary.images, summary.labeled_now) == (7, 7)
    cv2.imwrite(str(images / NAMES[0]), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r'\(10, 20\).*\(48, 72\).*were labelled'):
        run(store, config, tmp_path / 'new')
