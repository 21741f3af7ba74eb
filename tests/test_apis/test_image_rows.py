"""Test what Ray's tasks read from tars, and from a folder of any file system."""

import sys
import tarfile

import fsspec
import pytest

from mmcast.apis.image_rows import (
    ImageRows,
    _read_images,
    _read_parquet,
    _read_tar,
)
from mmcast.apis.label import are_rows, names_to_label
from mmcast.errors import one_line


@pytest.fixture
def memory():
    """Return a file system of fsspec's that no other reader here knows."""
    files = fsspec.filesystem('memory')
    files.store.clear()  # a process has one
    yield files
    files.rm('/', recursive=True)


def test_which_images_are_rows():
    rows = ['s3://b/x', 'tar://s3://b/x', 'parquet://x', 'parquet://gs://b/x.parquet']
    assert all(map(are_rows, rows))
    assert not any(map(are_rows, ['images', 'tar://images', '/data/x']))
    with pytest.raises(ValueError, match=r'only Ray reads .s3://b/x.: give `mmcast'):
        names_to_label('s3://b/x', None, None)


def test_a_folder(memory):
    names = ['a/1.png', 'a/1.jpg', 'b/2.JPG']
    for name in [*names, 'a/.3.png', '.c/4.png', '__MACOSX/5.png', 'b/x.txt']:
        memory.pipe(f'/images/{name}', name.encode())
    rows = ImageRows('memory://images')
    assert rows.names(None) == ['a/1.jpg', 'b/2.JPG']  # one of two labels
    read = _read_images({'path': ['a/1.jpg', 'lost.png']}, memory, rows.root)
    assert read['bytes'].tolist() == [b'a/1.jpg', b'']
    assert read['error'][0] == ''
    assert read['error'][1].startswith('lost.png (FileNotFoundError')


def test_names_are_no_patterns(memory):
    names = ['IMG1.jpg', 'IMG[1].jpg', 'a?/*.jpg']
    for name in names:
        memory.pipe(f'/new [2]/{name}', name.encode())
    rows = ImageRows('memory://new [2]')
    assert rows.names(None) == names
    lost = 'lost [1].jpg'
    read = _read_images({'path': [*names, lost]}, memory, rows.root)
    assert read['bytes'].tolist() == [*map(str.encode, names), b'']
    assert [bool(error) for error in read['error']] == [False, False, False, True]


def test_a_list(memory, tmp_path):
    memory.pipe('/images/1.png', b'')
    (tmp_path / 'list.txt').write_text('1.png\n')
    rows = ImageRows('memory://images')
    assert rows.names(tmp_path / 'list.txt') == ['1.png']
    memory.pipe('/images/0.tar', b'')
    with pytest.raises(ValueError, match='a list is for a folder'):
        ImageRows('tar://memory://images').names(tmp_path / 'list.txt')


def test_tars_are_read_part_by_part(memory, tmp_path, monkeypatch):
    monkeypatch.setattr('mmcast.apis.image_rows._MOST_READ', 2)
    (tmp_path / 'x.png').write_bytes(b'image')
    (tmp_path / 'link.png').symlink_to('/etc/passwd')
    with tarfile.open(tmp_path / '0.tar', 'w') as tar:
        for name in 'a/1.png', './2.png', '../3.png', 'a/4.txt':
            tar.add(tmp_path / 'x.png', name)
        tar.add(tmp_path / 'link.png', '5.png')
    memory.put(str(tmp_path / '0.tar'), '/tars/0.tar')
    memory.pipe('/tars/._0.tar', b'no tar')
    rows = ImageRows('tar://memory://tars')
    assert rows.names(None) is None
    assert rows.parts == ['/tars/0.tar']
    first, second = _read_tar({'path': ['/tars/0.tar']}, memory, rows.root)
    assert first['path'].tolist() == ['a/1.png', '2.png']
    assert second['path'].tolist() == ['../3.png']
    assert 'is not below the image folder' in second['error'][0]
    assert first['bytes'].tolist() == [b'image'] * 2


def test_parquet_of_other_kinds(memory):
    """Read an image that is null, and plain bytes with and without a path."""
    pyarrow = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    from pyarrow.parquet import write_table

    def read(**columns):
        with memory.open('/x.parquet', 'wb') as file:
            write_table(pyarrow.table(columns), file)
        rows = ImageRows('parquet://memory://x.parquet')
        (found,) = _read_parquet({'path': rows.parts}, memory, rows.root)
        return found

    found = read(image=[dict(path='a.png', bytes=b'a'), None])
    assert found['bytes'].tolist() == [b'a', b'']
    assert found['error'].tolist() == ['', 'a row of /x.parquet (there are no bytes)']

    found = read(image=[b'a', b'b', None], path=['a.png', 'b.png', 'c.png'])
    assert found['path'].tolist() == ['a.png', 'b.png', 'c.png']
    assert found['bytes'].tolist() == [b'a', b'b', b'']
    assert found['error'].tolist() == ['', '', 'c.png (there are no bytes)']

    message = r'the columns image \(binary\): give it `path` and `bytes`, or'
    with pytest.raises(ValueError, match=message):
        read(image=[b'a'])


def test_a_damaged_parquet_is_named(memory):
    pyarrow = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    from pyarrow.parquet import write_table

    with memory.open('/x.parquet', 'wb') as file:
        columns = dict(path=['a.png'], bytes=[bytes(range(256)) * 40])
        write_table(pyarrow.table(columns), file)
    whole = memory.cat('/x.parquet')
    rows = ImageRows('parquet://memory://x.parquet')
    message = r"'/x\.parquet' cannot be read \(.*: if it is damaged, make it again, or"
    for content in whole[:-9], b'PAR1' + bytes(len(whole) // 2) + whole[4:]:
        memory.pipe('/x.parquet', content)
        with pytest.raises(ValueError, match=message):
            list(_read_parquet({'path': rows.parts}, memory, rows.root))


def test_what_is_not_there(memory, monkeypatch):
    monkeypatch.setitem(sys.modules, 's3fs', None)
    with pytest.raises(
        ImportError, match=r'Install s3fs .* pip install s3fs for s3://'
    ):
        ImageRows('s3://bucket/x')
    with pytest.raises(FileNotFoundError, match="there is no 'memory://lost'"):
        ImageRows('memory://lost')
    with pytest.raises(ValueError, match='Protocol not known: s4') as error:
        ImageRows('s4://x')
    assert one_line(error.value) == str(error.value)
    assert str(error.value).endswith('a protocol that fsspec knows, as s3:// or gs://')
    memory.pipe('/images/x.txt', b'')
    with pytest.raises(ValueError, match="there is no image below 'memory://images'"):
        ImageRows('memory://images').names(None)
    with pytest.raises(FileNotFoundError, match=r'no \.tar file in .memory://images'):
        ImageRows('tar://memory://images')
