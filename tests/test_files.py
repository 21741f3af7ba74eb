"""Test the small helpers for files and tool commands."""

import errno
import os
import stat
from pathlib import Path

import pytest
from read_only import protect

from mmcast.errors import tool
from mmcast.files import (
    check_file,
    check_writable,
    if_writable,
    open_atomic,
    remove_killed,
    remove_unfinished,
    write_atomic,
)


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'sub' / 'a.txt'
    with open_atomic(path) as file:
        file.write(b'one')
        assert not path.exists()
    assert path.read_bytes() == b'one'

    def fail():
        with open_atomic(path) as file:
            file.write(b'two')
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b'one'
    assert os.listdir(path.parent) == ['a.txt']
    write_atomic(path, 'zwölf')
    assert path.read_text(encoding='utf-8') == 'zwölf'


def test_what_killed_calls_have_left_is_found_by_its_name(tmp_path):
    left, user, folder = '.a.png.x1_y2z3a', '.hidden', '.ipynb_checkpoints.abcdefgh'
    (tmp_path / folder).mkdir()
    for name in (left, user):
        (tmp_path / name).touch()
    with open_atomic(tmp_path / 'b.png'):  # a writer that lives
        held = {*os.listdir(tmp_path)} - {left, user, folder}
        remove_killed(tmp_path.glob('.*'))
        assert {*os.listdir(tmp_path)} == {user, folder, *held}


def test_files_have_the_users_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / 'a.txt', 'x')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'a.txt').stat().st_mode) == 0o640


def test_tool_command_runs(warm, tmp_path, monkeypatch):
    for folder in (tmp_path, Path(__file__).parents[1]):
        monkeypatch.chdir(folder)
        command = tool('dataset_converters/cityscapes.py')
        program, script = command.split()
        assert program == 'python'
        assert 'usage' in warm(script, '--help', check=True).stdout
    assert command == 'python tools/dataset_converters/cityscapes.py'


def test_check_of_a_folder_leaves_nothing(tmp_path):
    check_writable(tmp_path / 'a/b', 'x')
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES, errno.EPERM])
def test_files_that_may_only_be_read_stay(number, tmp_path, monkeypatch):
    (tmp_path / '.a.txt.x').touch()
    protect(monkeypatch, tmp_path, number)
    remove_unfinished(tmp_path / '.a.txt.x', 0)
    remove_unfinished(tmp_path / '.lost', 0)
    with pytest.raises(OSError, match='the disk'), if_writable():
        raise OSError(errno.EIO, 'the disk')


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'a').write_text('')
    check_file(tmp_path / 'a')
    check_file(tmp_path / 'b/c')
    assert not (tmp_path / 'b').exists()
    with pytest.raises(OSError, match='is a folder: give the path of a file'):
        check_file(tmp_path)
    with pytest.raises(OSError, match=r'Not a directory.*or give another file'):
        check_file(tmp_path / 'a/b')
