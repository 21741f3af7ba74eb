"""Test stores in shards: as folders, with killed writers, with hostile files."""

import errno
import os
import pickle
import random
import shutil
import signal
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gloo_ranks import fork
from pycocotools import mask as mask_utils
from read_only import protect

from mmcast.apis import convert_store, merge_stores, verify_store
from mmcast.datasets import label_shards, shard_file, store_copy
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.files import sha256

TEACHERS = [Teacher('t.py', f'{i}.pth', f'{i}' * 64) for i in range(2)]
NAMES = [f'town/{i:03d}.png' for i in range(60)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shard_file, 'MOST_MEMBERS', 8)


def create(root, layout='shards', teacher=TEACHERS[0]):
    return PseudoLabelStore.create(root, classes='ab', teacher=teacher, layout=layout)


def write(store, name):
    """Write labels that follow from the name."""
    draw = np.random.default_rng(list(name.encode()))
    masks = [
        mask_utils.encode(np.asfortranarray(draw.integers(0, 2, (9, 7), np.uint8)))
        for _ in range(draw.integers(0, 4))
    ]
    scores = draw.random(len(masks))
    boxes = draw.random((len(masks), 4)) * 7
    store.write(name, (9, 7), [len(masks) % 2] * len(masks), scores, boxes, masks)


def filled(root, names=NAMES, layout='shards'):
    store = create(root, layout)
    for name in names:
        write(store, name)
    store.flush()
    return store


def shards(store):
    return sorted((store.root / 'shards').glob('*.tar'))


def content(root):
    """Return all files of a store but the manifest, which has the time."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file() and path.name != 'manifest.json'
    }


def text(labels):
    return repr(labels)


def test_shards_read_as_a_folder_does(tmp_path):
    names = [*NAMES, 'ä/ö 1.png', f'{"x" * 99}/{"y" * 200}.png', 'no_suffix']
    folder = filled(tmp_path / 'folder', names, 'folder')
    filled(tmp_path / 'shards', names)
    opened = PseudoLabelStore.open(tmp_path / 'shards')
    assert opened.layout == 'shards'
    assert len(shards(opened)) == 8
    for name in names:
        assert text(opened.read(name)) == text(folder.read(name))
    assert opened.missing(['b.png', *names, 'a.png']) == ['b.png', 'a.png']
    with pytest.raises(FileNotFoundError, match=r'a\.png has no pseudo-labels'):
        opened.read('a.png')
    assert text(sorted(opened.entries())) == text(sorted(folder.entries()))
    with pytest.raises(ValueError, match='would share the pseudo-labels'):
        opened.missing(['a.png', 'a.jpg'])

    assert convert_store(folder.root, tmp_path / 'there').images == len(names)
    convert_store(tmp_path / 'there', tmp_path / 'back')
    assert content(tmp_path / 'back') == content(folder.root)
    found = verify_store(opened.root)
    assert (found.files, found.images, found.repeated) == (8, len(names), 0)
    assert found.instances == verify_store(folder.root).instances > 50


def test_tar_reads_a_shard(tmp_path):
    names = ['a.png', 'ä/ö.png', f'{"x" * 99}/{"y" * 200}.png']
    store = filled(tmp_path / 's', names)
    folder = filled(tmp_path / 'f', names, 'folder')
    (path,) = shards(store)
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert all(member.isreg() and member.mode == 0o644 for member in members)
        *entries, table = members
        assert table.name == '__index__'
        for member, name in zip(entries, names, strict=True):
            assert folder.root / member.name == folder.path(name)
            data = tar.extractfile(member).read()
            assert data == folder.path(name).read_bytes()


def fill_share(root, part, of, pipe):
    store = create(root)
    for name in store.missing(NAMES[part::of]):
        write(store, name)
        pipe.send(name)
    store.flush()


def test_killed_writers_lose_nothing_that_was_written(tmp_path):
    """Kill each of three writers once, at a random moment of their work."""
    root = tmp_path / 's'
    written = set()
    for part in range(3):
        ours, theirs = fork.Pipe()
        process = fork.Process(target=fill_share, args=(root, part, 3, theirs))
        process.start()
        for _ in range(random.randrange(1, 18)):
            assert ours.poll(60)
            written.add(ours.recv())
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    store = create(root)
    store.remove_leftovers()
    assert not written & set(store.missing(NAMES))
    assert not list((root / 'shards').glob('.*'))
    for name in store.missing(NAMES):
        write(store, name)
    store.flush()
    assert merge_stores([root], tmp_path / 'merged').images == len(NAMES)
    merge_stores([filled(tmp_path / 'single').root], tmp_path / 'expected')
    assert content(tmp_path / 'merged') == content(tmp_path / 'expected')
    assert verify_store(tmp_path / 'merged').files == 8


def test_a_merge_takes_each_image_once_and_can_go_on(tmp_path, monkeypatch):
    one = filled(tmp_path / 'one', NAMES[:40])
    two = filled(tmp_path / 'two', NAMES[20:], 'folder')
    real, calls = label_shards.LabelShards.put, []

    def put(self, name, data):
        calls.append(name)
        if len(calls) > 30:
            raise KeyboardInterrupt
        real(self, name, data)

    out, roots = tmp_path / 'out', [one.root, two.root]
    with monkeypatch.context() as patch:
        patch.setattr(label_shards.LabelShards, 'put', put)
        with pytest.raises(KeyboardInterrupt):
            merge_stores(roots, out)
    assert len(list(PseudoLabelStore.open(out).entries())) == 30
    copied = merge_stores(roots, out)
    assert (copied.images, copied.repeated) == (60, 20)
    assert PseudoLabelStore.open(out).missing(NAMES) == []
    other = create(tmp_path / 'other', teacher=TEACHERS[1])
    with pytest.raises(ValueError, match='were made with teacher'):
        merge_stores([one.root, other.root], tmp_path / 'x')


def test_a_merge_of_other_settings_is_told(tmp_path, monkeypatch):
    """They are of one checkpoint; a store from before has no settings."""
    said = []
    monkeypatch.setattr(store_copy, 'print_log', lambda text, **_: said.append(text))
    for settings in ('', 'one', 'two'):
        teacher = replace(TEACHERS[0], settings=settings)
        create(tmp_path / f's{settings}', teacher=teacher)
    merge_stores([tmp_path / 's', tmp_path / 'sone'], tmp_path / 'out')
    assert not said
    merge_stores([tmp_path / 'sone', tmp_path / 'stwo'], tmp_path / 'both')
    merge_stores([tmp_path / 'stwo'], tmp_path / 'both')
    assert len(said) == 2
    assert f'{tmp_path / "sone"} and {tmp_path / "stwo"} have' in said[0]
    assert f'{tmp_path / "stwo"} and {tmp_path / "both"} have' in said[1]


@pytest.mark.parametrize('inside', ['', 'copy', '../link/copy'])
@pytest.mark.parametrize('layout', ['shards', 'folder'])
def test_a_copy_is_not_written_into_its_source(tmp_path, layout, inside):
    one, two = filled(tmp_path / 'one'), filled(tmp_path / 'two', layout=layout)
    (tmp_path / 'link').symlink_to(two.root)
    # Saving it would be a change, too.
    (one.root / 'shards/.open.x').write_bytes(shards(one)[0].read_bytes())
    before = content(tmp_path)
    for copy in (
        lambda: merge_stores([one.root, two.root], two.root / inside),
        lambda: convert_store(two.root, two.root / inside),
    ):
        with pytest.raises(ValueError, match=r'is inside the store .* a path outside'):
            copy()
    assert content(tmp_path) == before


def test_two_writers_of_one_image(tmp_path):
    one, two = create(tmp_path / 's'), create(tmp_path / 's')
    for store in (one, two):
        write(store, 'a.png')
    write(two, 'b.png')
    one.flush()
    assert one.missing(['a.png', 'b.png']) == ['b.png']
    two.flush()
    assert text(one.read('b.png')) == text(two.read('b.png'))  # without opening it
    assert sorted(name for name, _ in one.entries()) == ['a.png', 'b.png']
    found = verify_store(one.root)
    assert (found.images, found.repeated, found.unfinished) == (2, 1, 0)


def test_living_writers_keep_their_shard(tmp_path):
    store = create(tmp_path / 's')
    write(store, 'a.png')
    other = create(tmp_path / 's')
    other.remove_leftovers()
    # A reader was killed while it made the index.
    (store.root / 'shards/.index.0123456789abcdef.npy.x').write_bytes(b'')
    assert verify_store(store.root).unfinished == 1
    assert other.missing(['a.png']) == ['a.png']
    store.flush()
    assert other.missing(['a.png']) == []


def test_a_full_disk_leaves_whole_entries(tmp_path):
    store = create(tmp_path / 's')
    write(store, 'a.png')
    file = store.files._writer._file

    class Full:
        def write(self, data):
            file.write(data[:700])
            raise OSError(errno.ENOSPC, 'no space left')

        def __getattr__(self, name):
            return getattr(file, name)

    store.files._writer._file = Full()
    with pytest.raises(OSError, match='no space left'):
        write(store, 'b.png')
    store.files._writer._file = file
    store.flush()
    assert verify_store(store.root).images == 1


def test_a_first_entry_that_cannot_be_written_leaves_no_shard(tmp_path, monkeypatch):
    """A shard without an entry is damaged, and nobody could read the store."""
    store = filled(tmp_path / 's', ['a.png'])

    def fail(self, data):
        raise OSError(errno.ENOSPC, 'no space left')

    with monkeypatch.context() as patch:
        patch.setattr(shard_file.ShardWriter, '_append', fail)
        with pytest.raises(OSError, match='no space left'):
            write(store, 'b.png')
    store.flush()
    assert len(shards(store)) == 1
    assert verify_store(store.root).unfinished == 0
    assert store.missing(['a.png', 'b.png']) == ['b.png']


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES])
def test_a_store_that_may_only_be_read(number, tmp_path, monkeypatch):
    """It has no index, and the shard of a killed writer."""
    root = filled(tmp_path / 's', NAMES[:4]).root
    leftover = root / 'shards/.open.x'
    leftover.write_bytes(shards(filled(tmp_path / 't', NAMES[4:]))[0].read_bytes())
    protect(monkeypatch, root, number)
    for path in (root / 'shards').glob('index.*'):
        path.unlink()
    store = PseudoLabelStore.open(root)
    store.remove_leftovers()
    assert store.missing(NAMES) == NAMES[4:]
    assert store.read(NAMES[0]).size == (9, 7)
    assert leftover.exists()


def test_a_replaced_store_gets_no_shard(tmp_path):
    store = create(tmp_path / 's')
    write(store, 'a.png')
    shutil.rmtree(store.root)
    create(store.root, teacher=TEACHERS[1])
    with pytest.raises(ValueError, match='were made with teacher'):
        store.flush()
    assert os.listdir(store.root) == ['manifest.json']


def test_layouts_are_not_mixed(tmp_path):
    create(tmp_path / 's')
    assert (
        PseudoLabelStore.create(
            tmp_path / 's', classes='ab', teacher=TEACHERS[0]
        ).layout
        == 'shards'
    )
    with pytest.raises(ValueError, match='has the layout shards, but folder is wanted'):
        create(tmp_path / 's', 'folder')
    with pytest.raises(ValueError, match='give folder or shards'):
        create(tmp_path / 't', 'tar')


def test_processes_map_one_index(tmp_path):
    store = filled(tmp_path / 's')
    store.read(NAMES[0])
    (path,) = (store.root / 'shards').glob('index.*.npy')
    assert str(path) in Path('/proc/self/maps').read_text()
    assert store.files._index.base is not None
    assert pickle.loads(pickle.dumps(store)).files._index is None
    path.write_bytes(b'damaged')
    fresh = PseudoLabelStore.open(store.root)
    assert fresh.missing(NAMES) == []
    assert np.load(path).shape == (3, len(NAMES))


def test_images_whose_hashes_begin_alike(tmp_path, monkeypatch):
    def alike(names):
        found = [[7, int(''.join(filter(str.isdigit, name)))] for name in names]
        return np.array(found, '<u8').reshape(-1, 2).T

    for module in (shard_file, label_shards):
        monkeypatch.setattr(module, 'hashes', alike)
    store = filled(tmp_path / 's', NAMES[:40])
    for name in NAMES[:40]:
        store.read(name)
    assert store.missing(NAMES) == NAMES[40:]


def patched(path, place, data):
    """Change bytes of the first member's header; keep its checksum and digest right."""
    raw = bytearray(path.read_bytes())
    raw[place : place + len(data)] = data
    raw[148:156] = b' ' * 8
    raw[148:156] = b'%06o\0 ' % sum(raw[:512])
    path.write_bytes(raw)
    return path.rename(path.with_name(f'{sha256(path)}.tar'))


HOSTILE = {
    'absolute name': (0, b'/etc/passwd'),
    'name above': (0, b'../0.json'),
    'symbolic link': (156, b'2/etc/passwd'),
    'hard link': (156, b'1town/001.json'),
    'device': (156, b'3'),
    'folder': (156, b'5'),
    'pax header': (156, b'x'),
    'sparse file': (156, b'S'),
    'odd size': (124, b'00000000007'),
    'huge size': (124, b'77777777777'),
    'negative size': (124, b'-0000000777'),
    'binary size': (124, b'\x80' + b'\xff' * 10),
    'set-uid': (100, b'0004755'),
    'owner': (265, b'root'),
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_hostile_members_are_refused(kind, tmp_path):
    store = filled(tmp_path / 's', NAMES[:4])
    path = patched(shards(store)[0], *HOSTILE[kind])
    with tarfile.open(path) as tar:
        assert kind in ('pax header', 'binary size', 'negative size') or tar.next()
    for use in (
        lambda: store.read(NAMES[0]),
        lambda: list(PseudoLabelStore.open(store.root).entries()),
        lambda: verify_store(store.root),
        lambda: convert_store(store.root, tmp_path / 'out'),
    ):
        with pytest.raises(ValueError, match='elete ') as error:
            use()
        assert len(str(error.value).splitlines()) == 1
        assert path.name in str(error.value)
    assert not list(tmp_path.glob('out/*.json'))[1:]
    # As the file of a killed writer, nothing of it is kept.
    path.rename(path.with_name('.open.x'))
    store.remove_leftovers()
    assert store.missing(NAMES[:4]) == NAMES[:4]
    assert not list((store.root / 'shards').glob('[.]*'))


@pytest.mark.parametrize('length', [0, 511, 1024, 3000, -1, -600, -1024, -1030])
def test_shards_that_are_cut_off(length, tmp_path):
    store = filled(tmp_path / 's', NAMES[:4])
    (path,) = shards(store)
    data = path.read_bytes()[:length]
    path.write_bytes(data)
    path = path.rename(path.with_name(f'{sha256(path)}.tar'))
    for use in (lambda: store.read(NAMES[0]), lambda: verify_store(store.root)):
        with pytest.raises(ValueError, match='elete') as error:
            use()
        assert path.name in str(error.value)
    path.rename(path.with_name('.open.x'))
    store.remove_leftovers()
    whole = {0: 0, 511: 0}.get(length)
    assert len(list(store.entries())) == whole or whole is None
    assert verify_store(store.root).unfinished == 0


def test_changed_bytes_and_foreign_files_are_found(tmp_path):
    store = filled(tmp_path / 's', NAMES)
    first, second = shards(store)[:2]
    raw = bytearray(first.read_bytes())
    raw[513] ^= 1
    first.write_bytes(raw)
    (first.parent / 'other.tar').write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match='2 files are damaged') as error:
        verify_store(store.root)
    assert first.name in str(error.value)
    assert 'other.tar' in str(error.value)
    first.unlink()
    (first.parent / 'other.tar').unlink()
    missing = store.missing(NAMES)
    assert len(missing) in (4, 8)
    for name in missing:
        write(store, name)
    store.flush()
    assert verify_store(store.root).images == len(NAMES)
