"""Test stores that two real processes create, fill, read and replace at once."""

import json
import os
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from gloo_ranks import fork
from pycocotools import mask as mask_utils

from mmcast.datasets import label_folder, pseudo_label_store
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.files import open_atomic

TEACHERS = [Teacher('t.py', f'{i}.pth', f'{i}' * 64) for i in range(2)]
NAMES = [f'town/{i:03d}.png' for i in range(150)]


def create(root, teacher=TEACHERS[0]):
    return PseudoLabelStore.create(root, classes='ab', teacher=teacher)


def write(store, name):
    rle = mask_utils.encode(np.asfortranarray(np.eye(40, dtype=np.uint8)))
    boxes = [[0, 0, 9, 9]] * 20
    store.write(name, (40, 40), [0] * 20, [0.5] * 20, boxes, [rle] * 20)


def start(function, *arguments):
    process = fork.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def end(*processes):
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def create_at_once(root, teacher, barrier, results):
    """Create a store; wait for the other process where both have found none."""
    real = pseudo_label_store.write_atomic

    def write_atomic(*arguments, **options):
        barrier.wait(60)
        real(*arguments, **options)

    pseudo_label_store.write_atomic = write_atomic
    try:
        store = create(root, teacher)
        write(store, f'{teacher.checkpoint}.png')
        results.put(('made', teacher.digest))
    except ValueError as error:
        results.put(('refused', str(error)))


def test_only_one_of_two_teachers_makes_a_store(tmp_path):
    for round_ in range(5):
        barrier, results = fork.Barrier(2), fork.Queue()
        root = tmp_path / f'{round_}'
        processes = [
            start(create_at_once, root, teacher, barrier, results)
            for teacher in TEACHERS
        ]
        found = dict(results.get(timeout=60) for _ in processes)
        end(*processes)
        store = PseudoLabelStore.open(root)
        assert found['made'] == store.teacher.digest
        assert 'delete the folder, or point `store`' in found['refused']
        assert len(found['refused'].splitlines()) == 1
        names = [name for name, _ in store.entries()]
        assert names == [f'{store.teacher.checkpoint}.png']
        assert sorted(os.listdir(root)) == [f'{names[0][:-4]}.json', 'manifest.json']


def test_two_processes_with_one_teacher_make_one_store(tmp_path):
    barrier, results = fork.Barrier(2), fork.Queue()
    arguments = tmp_path / 's', TEACHERS[0], barrier, results
    processes = [start(create_at_once, *arguments) for _ in range(2)]
    for _ in processes:
        assert results.get(timeout=60) == ('made', TEACHERS[0].digest)
    end(*processes)


def fill(root, order):
    store = create(root)
    for name in NAMES[::order]:
        store.remove_leftovers()
        store.missing(NAMES)
        write(store, name)


def test_two_processes_fill_a_store_that_a_third_one_reads(tmp_path):
    """Read while they write: an entry is missing or whole."""
    store = create(tmp_path / 's')
    processes = [start(fill, store.root, order) for order in (1, -1)]
    seen = 0
    while store.missing(NAMES):
        assert any(process.is_alive() for process in processes)
        for name in set(NAMES) - set(store.missing(NAMES)):
            assert len(store.read(name).labels) == 20
            seen += 1
    end(*processes)
    assert seen
    assert len(list(store.entries())) == len(NAMES)
    left = {path.name[-5:] for path in store.root.rglob('*') if path.is_file()}
    assert left == {'.json'}


def write_slowly(path, pipe):
    with open_atomic(path) as file:
        file.write(b'{}')
        file.flush()
        (temporary,) = path.parent.glob(f'.{path.name}.*')
        os.utime(temporary, (0, 0))
        pipe.send(temporary)
        pipe.recv()


@pytest.mark.parametrize('killed', [False, True])
def test_leftovers_are_the_files_of_writers_that_ended(killed, tmp_path):
    """Let the file of a living writer look old, as that of a stopped process."""
    store = create(tmp_path / 's')
    ours, theirs = fork.Pipe()
    path = store.path('a.png')
    process = start(write_slowly, path, theirs)
    assert ours.poll(60)
    temporary = ours.recv()
    store.remove_leftovers()
    assert temporary.exists()
    assert store.missing(['a.png']) == ['a.png']
    if killed:
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        store.remove_leftovers()
    else:
        ours.send('go on')
        end(process)
    assert not temporary.exists()
    assert path.exists() != killed


def test_temporary_file_that_vanishes_is_no_error(tmp_path, monkeypatch):
    store = create(tmp_path / 's')
    monkeypatch.setattr(store.files, '_walk', lambda: [('town/.a.json.abcdefgh', True)])
    store.remove_leftovers()


def test_labels_of_hidden_images_are_no_leftovers(tmp_path):
    store = create(tmp_path / 's')
    name = '.a.json.b.png'
    write(store, name)
    os.utime(store.path(name), (0, 0))
    store.remove_leftovers()
    assert store.missing([name]) == []
    assert [found for found, _ in store.entries()] == [name]


def replace(root):
    shutil.rmtree(root)
    create(root, TEACHERS[1])


def test_store_that_was_replaced_is_neither_read_nor_filled(tmp_path):
    old = create(tmp_path / 's')
    write(old, 'a.png')
    end(start(replace, old.root))
    new = PseudoLabelStore.open(old.root)
    write(new, 'b.png')
    for use in (lambda: write(old, 'c.png'), lambda: old.read('b.png')):
        with pytest.raises(ValueError, match=r'made with teacher .* 1{64}') as error:
            use()
        assert len(str(error.value).splitlines()) == 1
    assert [name for name, _ in new.entries()] == ['b.png']
    shutil.rmtree(old.root)
    with pytest.raises(FileNotFoundError, match='There is no pseudo-label store'):
        write(old, 'town/c.png')
    assert not old.root.exists()


def test_store_that_is_replaced_during_a_write_gets_no_entry(tmp_path, monkeypatch):
    old = create(tmp_path / 's')

    @contextmanager
    def replace_first(path):
        with open_atomic(path) as file:
            content = json.loads((old.root / 'manifest.json').read_text())
            content['teacher'] = vars(TEACHERS[1])
            new = old.root / 'new'
            new.write_text(json.dumps(content))
            new.rename(old.root / 'manifest.json')
            yield file

    monkeypatch.setattr(label_folder, 'open_atomic', replace_first)
    with pytest.raises(ValueError, match='were made with teacher'):
        write(old, 'a.png')
    assert os.listdir(old.root) == ['manifest.json']


def test_folder_of_a_killed_creation_is_no_store_yet(tmp_path):
    root = tmp_path / 's'
    assert not PseudoLabelStore.exists(root)
    root.mkdir()
    (root / '.manifest.json.abcdefgh').write_text('{')
    assert not PseudoLabelStore.exists(root)
    store = create(root)
    assert PseudoLabelStore.exists(root)
    assert store.missing(['a.png']) == ['a.png']
