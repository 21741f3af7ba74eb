"""Test images in tars: as in a folder; names and members that are refused."""

import errno
import io
import os
import tarfile

import pytest
from gloo_ranks import fork
from mmcv.transforms import LoadImageFromFile
from read_only import protect

from mmcast.cli import main
from mmcast.datasets import image_tars
from mmcast.datasets.image_list import ImageListDataset
from mmcast.datasets.image_tars import ImageTars, image_path
from mmcast.datasets.pseudo_label_store import PseudoLabelStore


def pack(folder, names, images):
    """Put images into two tars."""
    folder.mkdir()
    for part in range(2):
        with tarfile.open(folder / f'{part}.tar', 'w') as tar:
            for name in names[part::2]:
                tar.add(images / name, f'./{name}' if part else name)
    return f'tar://{folder}'


def listed(folder, **options):
    data_set = ImageListDataset(data_prefix=dict(img=folder), **options)
    return list(data_set.names())


def test_tars_are_read_as_a_folder_is(teacher_world, tmp_path):
    """Compare list, images and labels; the labels of the folder fit the tars."""
    images = teacher_world.img_root
    tars = pack(tmp_path / 'tars', teacher_world.names[::-1], images)
    (tmp_path / 'tars' / 'odd.txt').touch()
    assert listed(tars, ann_file='') == sorted(teacher_world.names)
    item = ImageListDataset(
        ann_file='', data_root=str(tmp_path), data_prefix=dict(img='tar://tars')
    )[3]
    found = LoadImageFromFile()(item)['img']
    file = image_path(images, item['img_name'])
    assert (found == LoadImageFromFile()(dict(img_path=file))['img']).all()

    (tmp_path / 'list').write_text('town0/image_00.png\nno.png\n')
    with pytest.raises(FileNotFoundError, match=r"list:2: there is no image 'no.png'"):
        listed(tars, ann_file=str(tmp_path / 'list'))
    teacher = [str(teacher_world.config), str(teacher_world.checkpoint)]
    for store, source in ('one', images), ('two', tars):
        words = ['--images', str(source), '--store', str(tmp_path / store)]
        main(['label', *teacher, *words])
    one, two = (PseudoLabelStore.open(tmp_path / name) for name in ('one', 'two'))
    assert repr(list(one.entries())) == repr(list(two.entries()))
    assert len(list(one.entries())) == len(teacher_world.names)


def test_the_index_is_shared_and_follows_the_tars(teacher_world, tmp_path):
    names = teacher_world.names
    images = teacher_world.img_root
    folder = pack(tmp_path / 'tars', names[:6], images)
    tars = ImageTars(folder)
    (index,) = (tmp_path / 'tars').glob('.images.*')
    content = (images / names[0]).read_bytes()
    assert tars.read(names[0]) == content

    def read():
        os._exit(int(tars.read(names[0]) != content))

    process = fork.Process(target=read)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    written = index.stat().st_mtime_ns
    ImageTars(folder)
    assert index.stat().st_mtime_ns == written
    with tarfile.open(tmp_path / 'tars/2.tar', 'w') as tar:
        tar.add(images / names[9], names[9])
    assert ImageTars(folder).names() == sorted([*names[:6], names[9]])
    assert len(list((tmp_path / 'tars').glob('.images.*'))) == 1


def member(name, **values):
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ('name', 'message'),
    [('../a.png', 'not below'), ('/a.png', 'not below'), ('b.png', 'in the tars')],
)
def test_names_that_are_refused(name, message, tmp_path):
    with tarfile.open(tmp_path / '0.tar', 'w') as tar:
        tar.addfile(member('b.png', size=2), io.BytesIO(b'ab'))
        tar.addfile(member(name))
    with pytest.raises(ValueError, match=message) as error:
        ImageTars(f'tar://{tmp_path}')
    assert '0.tar' in str(error.value)
    assert os.listdir(tmp_path) == ['0.tar']


def test_other_members_and_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no \.tar file'):
        ImageTars(f'tar://{tmp_path}')
    with tarfile.open(tmp_path / '0.tar', 'w') as tar:
        tar.addfile(member('a.png', type=tarfile.SYMTYPE, linkname='/etc/passwd'))
        tar.addfile(member('b.png', type=tarfile.LNKTYPE, linkname='c.png'))
        tar.addfile(member('c.png', size=2), io.BytesIO(b'ab'))
        tar.addfile(member('c.cls', size=1), io.BytesIO(b'1'))
    assert ImageTars(f'tar://{tmp_path}').names() == ['c.png']
    for name in ('1.tar', '1.tar.gz', '1.tgz'):
        with tarfile.open(tmp_path / name, 'w:gz') as tar:
            tar.addfile(member('d.png', size=2), io.BytesIO(b'ab'))
        with pytest.raises(ValueError, match=r'give uncompressed tar files'):
            ImageTars(f'tar://{tmp_path}')
        (tmp_path / name).unlink()
    # An index that a killed process began, and one that another begins now.
    killed, begun = tmp_path / '.images.abcdefgh', tmp_path / '.images.hgfedcba'
    for path in (killed, begun):
        path.touch()
    os.utime(killed, (0, 0))
    next(tmp_path.glob('.images.*.sqlite')).unlink()
    assert ImageTars(f'tar://{tmp_path}').names() == ['c.png']
    assert (killed.exists(), begun.exists()) == (False, True)


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_only_be_read(number, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / '0.tar', 'w') as tar:
        tar.addfile(member('a.png', size=2), io.BytesIO(b'ab'))
    with monkeypatch.context() as patch:
        protect(patch, tmp_path, number)
        with pytest.raises(OSError, match='or make a folder of links to the tars'):
            ImageTars(f'tar://{tmp_path}')
    ImageTars(f'tar://{tmp_path}')
    protect(monkeypatch, tmp_path, number)
    assert ImageTars(f'tar://{tmp_path}').names() == ['a.png']


def test_hidden_members_and_tars_are_left_out(tmp_path, monkeypatch):
    """macOS puts them there; an index of an earlier version may have them."""
    with tarfile.open(tmp_path / '0.tar', 'w') as tar:
        for name in '._a.png', './._a.png', '.b/c.png', '__MACOSX/d.png', 'a.png':
            tar.addfile(member(name, size=2), io.BytesIO(b'ab'))
    (tmp_path / '._0.tar').write_bytes(b'no tar')
    folder = f'tar://{tmp_path}'
    with monkeypatch.context() as patch:
        patch.setattr(image_tars, '_VERSION', 1)
        patch.setattr(image_tars, 'is_image', lambda name: name.endswith('c.png'))
        assert ImageTars(folder).names() == ['.b/c.png']
    assert ImageTars(folder).names() == ['a.png']
    assert len([*tmp_path.glob('.images.*')]) == 1
