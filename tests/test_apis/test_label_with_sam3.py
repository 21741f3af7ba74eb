"""Test labelling with SAM 3 around the model: processes, files, options, errors."""

import json
import os
import signal
import sys
import time
import venv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from gloo_ranks import fork
from pycocotools import mask as mask_utils

from mmcast.apis import label_with_sam3 as module_function
from mmcast.apis.label_with_sam3 import phrases
from mmcast.cli import main
from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.sam3 import environment
from mmcast.sam3.environment import python_of
from mmcast.sam3.job import Job

module = sys.modules[module_function.__module__]
STAND_IN = Path(__file__).parents[1] / 'sam3_stand_in.py'
CLASSES = ['person', 'car']


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Make images and weights; a stand-in is in place of the model."""
    rng = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / f'images/{i % 3}/{i:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (20, 30, 3), np.uint8))
    for name in module._FILES:
        (tmp_path / 'weights').mkdir(exist_ok=True)
        (tmp_path / 'weights' / name).write_text(name)
    monkeypatch.setattr(module, '_SCRIPT', STAND_IN)
    monkeypatch.setattr(module, 'python_of', lambda env: sys.executable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def label(store, *words, classes=CLASSES):
    start = ['label', '--teacher', 'sam3', '--images', 'images', '--store', store]
    main([*start, '--weights', 'weights', '--classes', *classes, *words])


def files(store):
    return {
        path.relative_to(store): path.read_bytes()
        for path in Path(store).rglob('*.json')
        if path.name != 'manifest.json'
    }


def test_two_processes_label_what_can_be_read(world, monkeypatch):
    said = []
    for each in module, sys.modules['mmcast.apis.label_images']:
        monkeypatch.setattr(each, 'print_log', lambda text, **_: said.append(text))
    Path('images/0/00.png').write_bytes(b'damaged')
    Path('images/1/01.png').write_bytes(b'')
    cv2.imwrite('images/2/02.png', np.zeros((20, 30), np.uint16))
    cv2.imwrite('images/0/03.png', np.zeros((20, 30, 3), np.uint8))  # the model fails
    label('s', '--processes', '2', '--prompts', 'car=red car', '--layout', 'shards')
    assert 'Labelling 20 of 20 images' in said[0]
    assert '4 of 20 images cannot be read' in said[-2]
    assert '0/03.png (SAM 3 failed, IndexError: all is black)' in said[-2]
    for part in ('0/00.png', '1/01.png', '2/02.png (it has 16 bits a channel'):
        assert part in said[-2]
    assert 'Pseudo-labels of 16 images (16 labelled now)' in said[-1]
    store = PseudoLabelStore.open('s')
    assert store.layout == 'shards'
    assert store.classes == tuple(CLASSES)
    assert store.teacher.config == 'SAM 3: person; red car'
    names = [name for name, _ in store.entries()]
    assert len(names) == 16
    for name in names:
        image = cv2.imread(f'images/{name}')[..., ::-1]
        entry = store.read(name)
        assert entry.size == (20, 30)
        assert entry.labels.tolist() == [1, 0]
        assert entry.scores[1] == pytest.approx(image.mean() / 255, abs=1e-5)
        assert entry.scores.tolist() == entry.class_scores.tolist()
        assert entry.mask_qualities.tolist() == [np.float32(0.8), np.float32(0.7)]
        for i, rle in zip((0, 1), entry.masks, strict=True):
            assert (mask_utils.decode(rle) == (image[..., i] > 128)).all()
    # What decides about the labels cannot change in a store.
    mine = "has labels of 'SAM 3: person; red car', and 'SAM 3: "
    for words, classes, message in (
        ([], CLASSES, f"{mine}person; car' .* another folder as --store"),
        (['--prompts', 'car=red car', '--iou-thr', '0.9'], CLASSES, 'iou_thr=0.9 is'),
        (['--prompts', 'car=red car'], CLASSES[::-1], f"{mine}red car; person'"),
    ):
        with pytest.raises(ValueError, match=message):
            label('s', *words, classes=classes)


def test_a_killed_run_ends_its_processes_and_continues(world, monkeypatch):
    monkeypatch.setenv('SECONDS', '0.5')  # an image
    process = fork.Process(target=label, args=('s', '--processes', '2'), daemon=True)
    process.start()
    deadline = time.monotonic() + 60
    while not Path('s').exists() or len(files('s')) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before: dict = {}
    while before != files('s'):  # each ends after its image
        before = files('s')
        time.sleep(2)
    assert 3 <= len(before) < 20
    assert all(name for name, _ in PseudoLabelStore.open('s').entries())
    times = {path: Path('s', path).stat().st_mtime_ns for path in before}
    monkeypatch.setenv('SECONDS', '0')
    label('s')
    assert len(files('s')) == 20
    assert all(Path('s', path).stat().st_mtime_ns == at for path, at in times.items())


def test_stores_are_checked_before_the_environment_is_made(world, monkeypatch):
    def never(env):
        raise AssertionError(env)

    monkeypatch.setattr(module, 'python_of', never)
    with pytest.raises(ValueError, match='holds files but no manifest'):
        label('images')


def test_failures_name_the_cause(world):
    of_memory = (
        r'out of memory at .*\.png \(20x30 pixels\) with 8 prompts: lower --chunk'
    )
    with pytest.raises(RuntimeError, match=of_memory):
        label('a', '--prompts', 'person=out of memory')
    with pytest.raises(ValueError, match='chunk and processes are at least 1'):
        label('c', '--chunk', '0')
    Path('weights/config.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'accept .* hf download facebook/sam3'):
        label('c')
    assert not Path('c').exists()


def test_a_process_that_ends_before_it_reads_its_job(world, monkeypatch):
    """A job of many images does not fit into the pipe."""
    Path('ends.py').write_text('raise SystemExit(3)')
    monkeypatch.setattr(module, '_SCRIPT', Path('ends.py'))
    with pytest.raises(
        RuntimeError, match=r'SAM 3 failed \(a process ended with code 3'
    ):
        label('s', '--prompts', f'car={"car " * 100_000}')


def test_long_lines_of_two_processes_do_not_mix(world, monkeypatch):
    """A pipe takes 4,096 bytes at once; the last line is cut off, as by a kill."""
    Path('talks.py').write_text(
        'import json, sys\n'
        'job = json.load(sys.stdin)\n'
        'for i in range(200):\n'
        "    print(json.dumps({'name': job['names'][0] * 9000}), flush=True)\n"
        "sys.stdout.write('{name')\n"
    )
    monkeypatch.setattr(module, '_SCRIPT', Path('talks.py'))
    job = Job('', 's', [], [], [], '', 1, 0.7)
    jobs = [replace(job, names=[name]) for name in 'ab']
    with module._processes(sys.executable, jobs) as (lines, running):
        names = [json.loads(line)['name'] for line in lines]
    assert sorted(names) == ['a' * 9000] * 200 + ['b' * 9000] * 200
    assert [each.wait() for each in running] == [0, 0]


def test_phrases():
    classes = ['person', 'rider', 'traffic light']
    assert phrases(classes) == classes
    found = phrases(classes, ['rider=person on a bicycle'])
    assert found == ['person', 'person on a bicycle', 'traffic light']
    for given, prompts, message in (
        ([*classes, 'rider'], [], "'rider' is there twice"),
        ([], [], 'name at least one'),
        (classes, ['rider'], 'is no prompt: write CLASS='),
        (classes, ['bus=bus'], "for the class 'bus', but the classes are person, "),
        (classes, ['rider=person'], "'person' and 'rider' both have the prompt"),
        # SAM 3 reads small letters, and words.
        ([*classes, 'Rider'], [], "'rider' and 'Rider' both have the prompt 'rider'"),
        (classes, ['rider=Traffic  light'], "'rider' and 'traffic light' both have"),
    ):
        with pytest.raises(ValueError, match=message):
            phrases(given, prompts)


def test_options_are_those_of_the_teacher(capsys):
    for words, message in (
        (['--teacher', 'sam3'], 'the following arguments are required: --classes'),
        (['a.py', 'b.pth', '--chunk', '2'], 'unrecognized arguments: --chunk'),
        (['--teacher', 'sam2', '--classes', 'a'], "invalid choice: 'label --teacher "),
    ):
        with pytest.raises(SystemExit):
            main(['label', '--images', 'i', '--store', 's', *words])
        assert message in capsys.readouterr().err


def test_the_environment_is_made_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, 'NEEDS', {'pip>=20': 'pip'})
    python = python_of(tmp_path / 'env')
    assert Path(python).is_file()
    assert 'making' in capsys.readouterr().out
    assert python_of(tmp_path / 'env') == python
    assert capsys.readouterr().out == ''
    # Killed while it was made: without pip, or without Python.
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    venv.create(tmp_path / 'no_pip')
    (tmp_path / 'half').mkdir()
    (tmp_path / 'half/pyvenv.cfg').touch()
    for name in ('no_pip', 'half'):
        assert Path(python_of(tmp_path / name)).is_file()
    monkeypatch.setattr(environment, 'NEEDS', {'pip>=999': 'no-such-package==0'})
    with pytest.raises(RuntimeError, match=r'pip .* failed'):
        python_of(tmp_path / 'env')
    with pytest.raises(ValueError, match='has OpenMMLab'):
        python_of(sys.prefix)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/file').touch()
    with pytest.raises(ValueError, match='is no environment of Python'):
        python_of(tmp_path / 'other')
