"""Test which names and links are refused, by each reader and each writer of names."""

import json
import os
import shutil

import pytest
from mmdet.registry import DATASETS

import mmcast  # noqa: F401
from mmcast.datasets.cityscapes_to_coco import find_images as find_cityscapes
from mmcast.datasets.coco_file import read_coco
from mmcast.datasets.image_names import check_name, find_images, find_missing, scan
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.splits import format_list, read_list, to_image_name

GOOD = (
    *('a.png', 'a/b.png', 'ü/größe 1.png', 'a / b', '..a.png', 'a../b...png'),
    *('.hidden/a.png', 'a/..b', '日本/写真　1.jpg', 'x' * 240, '/'.join('ab' * 400)),
)
BAD = {
    '': 'not below the image folder',
    '.': 'not below the image folder',
    '..': 'not below the image folder',
    '../a.png': 'not below the image folder',
    'a/../b.png': 'not below the image folder',
    'a/..': 'not below the image folder',
    './a.png': 'not below the image folder',
    'a//b.png': 'not below the image folder',
    '/etc/passwd': 'not below the image folder',
    'a/': 'not below the image folder',
    'a\nb.png': 'a line break',
    'a.png\n': 'a line break',
    'a\rb.png': 'a line break',
    'a\0.png': 'control character',
    'a\x85b.png': 'control character',
    'a\u2028b.png': 'a line break',
    'a\\b.png': 'a backslash',
    'a\udcff.png': 'not UTF-8',
    ' a.png': 'a blank',
    'a.png ': 'a blank',
    'a.png\u3000': 'a blank',
    'x' * 241: '240 bytes',
    'ü' * 121: '240 bytes',
    'ab/' * 700 + 'a': '240 bytes',
}


@pytest.mark.parametrize('name', GOOD)
def test_good_names_pass_every_reader_and_writer(name, tmp_path):
    assert check_name(name, 'list.txt') == name
    path = tmp_path / 'list.txt'
    path.write_text(format_list([name]))
    assert read_list(path) == [name]
    store = PseudoLabelStore.create(
        tmp_path / 's', classes=['a'], teacher=Teacher('t.py', 't.pth', '0')
    )
    store.write(name, (2, 2), [], [], [], [])
    assert store.missing([name]) == []
    assert [found for found, _ in store.entries()] == [name]


@pytest.mark.parametrize(('name', 'message'), BAD.items(), ids=lambda text: text[:9])
def test_bad_names_are_refused_by_every_reader_and_writer(name, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        check_name(name, 'list.txt:7')
    assert str(error.value).startswith(f'list.txt:7: {name[:100]!r}')
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match=message):
        format_list(['good.png', name])
    coco = dict(images=[dict(id=1, file_name=name, height=2, width=2)], categories=[])
    (tmp_path / 'a.json').write_text(json.dumps(coco))
    if to_image_name(name.replace('\\', '/')) == name:  # it mends the others
        with pytest.raises(ValueError, match=f'a.json: .*{message}'):
            read_coco(tmp_path / 'a.json')
    root = tmp_path / 's'
    store = PseudoLabelStore.create(
        root, classes=['a'], teacher=Teacher('t.py', 't.pth', '0')
    )
    for use in (store.path, store.read, lambda bad: store.missing([bad])):
        with pytest.raises(ValueError, match=f'{root}: .*{message}'):
            use(name)
    with pytest.raises(ValueError, match=message):
        store.write(name, (2, 2), [], [], [], [])
    assert [path.name for path in root.iterdir()] == ['manifest.json']


@pytest.mark.parametrize('name', [None, 7, b'a.png', ['a.png'], {}])
def test_names_that_are_no_text_are_refused(name):
    with pytest.raises(ValueError, match=r'^a\.json: the image name .* is not text'):
        check_name(name, 'a.json')


@pytest.mark.parametrize(
    'line', ['../a.png', 'a/../b.png', '/a.png', ' a.png', 'a.png ', 'a\x00', 'a\\b']
)
def test_list_names_file_and_line(line, tmp_path):
    path = tmp_path / 'list.txt'
    path.write_text(f'good.png\n{line}\nlast.png\n')
    with pytest.raises(ValueError, match=r'list\.txt:2: ') as error:
        read_list(path)
    assert len(str(error.value).splitlines()) == 1


def test_name_that_would_be_read_as_another_is_not_written():
    """Write no image that is named as a Cityscapes annotation."""
    with pytest.raises(ValueError, match="would be read as 'ulm/ulm_0_left"):
        format_list(['ulm_0_gtFine_instanceIds.png'])


def test_cityscapes_folder_gives_no_bad_name(synthscapes, tmp_path):
    root = shutil.copytree(synthscapes, tmp_path / 'data')
    good = find_cityscapes(root, 'train')[0]
    image = root / 'leftImg8bit/train' / good
    image.rename(image.with_name('new\nline_leftImg8bit.png'))
    with pytest.raises(ValueError, match=r'new\\nline.* a line break'):
        find_cityscapes(root, 'train')


# -- links ---------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path):
    """Make ``pool/a/0.png``, and ``outside/secret.png`` next to it."""
    for name in ('pool/a/0.png', 'outside/secret.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b'x')
    return tmp_path / 'pool'


def build(pool, names=()):
    lines = pool.parent / 'list.txt'
    lines.write_text(''.join(f'{name}\n' for name in names))
    return DATASETS.build(
        dict(
            type='ImageListDataset',
            ann_file=str(lines) if names else '',
            data_prefix=dict(img=str(pool)),
        )
    )


@pytest.mark.parametrize(
    ('link', 'target', 'name'),
    [
        ('a/1.png', '../../outside/secret.png', 'a/1.png'),
        ('b', '../outside', 'b/secret.png'),
        ('b', '/', 'b/1.png'),
        ('a/up.png', '../../pool_2.png', 'a/up.png'),
    ],
)
def test_links_out_of_the_image_folder_are_refused(pool, link, target, name):
    (pool.parent / 'pool_2.png').write_bytes(b'x')
    os.symlink(target, pool / link)
    message = rf"pool: '{link}' leads out of the image folder, to .*--link-root"
    with pytest.raises(ValueError, match=message) as error:
        build(pool)
    assert len(str(error.value).splitlines()) == 1
    message = r'leads out of the image folder'
    with pytest.raises(ValueError, match=message):
        build(pool, ['a/0.png', name])
    # A link that no list names does not matter.
    assert len(build(pool, ['a/0.png'])) == 1


def test_links_into_a_cache_that_is_named_work(pool):
    """Follow links of files and of folders, and nothing else."""
    cache = pool.parent / 'cache'
    (cache / 'folder').mkdir(parents=True)
    for name in ('4f', 'folder/0.png', 'folder/1.png'):
        (cache / name).write_bytes(b'x')
    os.symlink('../../cache/4f', pool / 'a/1.png')
    os.symlink('../cache/folder', pool / 'b')
    os.symlink('.', cache / 'folder/ring')
    names = ['a/0.png', 'a/1.png', 'b/0.png', 'b/1.png']
    assert find_images(pool, cache) == names
    assert find_missing(names, pool, cache) == []
    with pytest.raises(ValueError, match='leads out of the image folder'):
        find_images(pool)
    os.symlink('../../outside', pool / 'a/2.png')
    with pytest.raises(ValueError, match=r'2\.png. leads out of the image folder'):
        find_images(pool, cache)


def test_what_other_programs_leave_is_not_an_image(pool):
    for name in ('@eaDir/0.png', '.ipynb_checkpoints/0.png', 'a/.0.png', 'a/0.HEIC'):
        (pool / name).parent.mkdir(exist_ok=True)
        (pool / name).write_bytes(b'x')
    for suffix in ('jfif', 'JPE', 'gif', 'jp2', 'avif', 'txt', 'json'):
        (pool / f'z.{suffix}').write_bytes(b'x')
    found = scan(pool)
    shown = [f'z.{suffix}' for suffix in ('JPE', 'avif', 'gif', 'jfif', 'jp2')]
    assert found.images == ['a/0.png', *shown]
    assert found.undecodable == ['a/0.HEIC']
    assert found.foreign == ['.ipynb_checkpoints', '@eaDir']


def test_linked_data_folders_work(pool):
    """Link the image folder, and a folder above it, as users do."""
    home = pool.parent / 'home'
    home.mkdir()
    os.symlink(pool, home / 'linked')
    os.symlink(pool.parent, home / 'data')
    for folder in (home / 'linked', home / 'data/pool', home / 'linked/a'):
        assert len(build(folder)) == 1
    assert len(build(home / 'data/pool', ['a/0.png'])) == 1


def test_links_inside_the_image_folder_work(pool):
    os.symlink('0.png', pool / 'a/1.png')
    os.symlink('a', pool / 'b')
    # Linked folders are not entered: else a link to `.` gives every image for ever.
    os.symlink('.', pool / 'ring')
    assert find_images(pool) == ['a/0.png', 'a/1.png']
    names = ['a/1.png', 'b/0.png', 'b/1.png', 'ring/ring/a/0.png']
    assert find_missing(names, pool) == []


def test_links_that_lead_nowhere_are_missing(pool):
    os.symlink('ring.png', pool / 'ring.png')
    os.symlink('none.png', pool / 'broken.png')
    assert find_missing(['a/0.png', 'ring.png', 'broken.png'], pool) == [1, 2]
    with pytest.raises(FileNotFoundError, match=r"list.txt:1: .*'ring\.png'"):
        build(pool, ['ring.png'])


def test_folder_with_a_bad_file_name_is_refused(pool):
    for name in (b'new\nline.png', b'latin\xe9.png'):
        path = os.path.join(os.fsencode(pool), name)
        os.close(os.open(path, os.O_CREAT))
        with pytest.raises(ValueError, match='rename the image') as error:
            build(pool)
        assert len(str(error.value).splitlines()) == 1
        str(error.value).encode()
        os.unlink(path)


def test_labelled_image_that_leads_out_is_refused(pool):
    os.symlink('../../outside/secret.png', pool / 'a/1.png')
    coco = dict(
        images=[dict(id=1, file_name='a/1.png', height=9, width=9)],
        categories=[dict(id=1, name='car')],
    )
    (pool.parent / 'a.json').write_text(json.dumps(coco))
    with pytest.raises(ValueError, match=r"'a/1\.png' leads out of the image folder"):
        DATASETS.build(
            dict(
                type='ListedCocoDataset',
                ann_file=str(pool.parent / 'a.json'),
                data_prefix=dict(img=str(pool)),
                metainfo=dict(classes=('car',)),
            )
        )


@pytest.mark.parametrize('line', ['../secret', '/etc/passwd', 'linked/secret'])
def test_image_with_depth_that_leads_out_is_refused(line, pool):
    (pool.parent / 'secret.png').write_bytes(b'x')
    os.symlink('../outside', pool / 'linked')
    (pool.parent / 'list.txt').write_text(f'a/0\n{line}\n')
    with pytest.raises(ValueError, match=r'(of|below) the image folder'):
        DATASETS.build(
            dict(
                type='DepthSegDataset',
                ann_file=str(pool.parent / 'list.txt'),
                data_prefix=dict(img_path=str(pool)),
                img_suffix='.png',
            )
        )
