"""Test that no checkpoint file executes code, and that each bad one has its line."""

import pathlib
import pickle
import zipfile

import pytest
import torch
from torch import nn

from mmcast.checkpoints import (
    ForbiddenContentError,
    check_fits,
    check_resumable,
    load_strict,
    read_checkpoint,
)


class Hostile:
    """Make a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


class Evaluated:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return eval, (f'open({str(self.path)!r}, "w")',)


def zipped(content, path):
    torch.save(content, path)


def legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


WRITERS = (zipped, legacy, plain_pickle)
PLACES = {
    'alone': lambda bad: bad,
    'weight': lambda bad: {'state_dict': {'weight': bad}},
    'meta': lambda bad: {'state_dict': {}, 'meta': {'name': bad}},
    'optimizer': lambda bad: {'state_dict': {}, 'optimizer': [bad]},
    'hub': lambda bad: {'state_dict': {}, 'message_hub': {'log_scalars': {'x': bad}}},
}
ROUTES = {
    'read': read_checkpoint,
    'shapes': lambda path: read_checkpoint(path, shapes_only=True),
    'check_fits': lambda path: check_fits(nn.Linear(1, 1), path),
    'init_cfg': lambda path: load_strict(nn.Linear(1, 1), str(path)),
    'resume': lambda path: check_resumable(str(path), str(path.parent)),
}


@pytest.mark.parametrize('route', ROUTES)
@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('write', WRITERS)
@pytest.mark.parametrize('kind', [Hostile, Evaluated])
def test_nothing_is_executed(kind, write, place, route, tmp_path):
    marker, path = tmp_path / 'executed', tmp_path / 'x.pth'
    write(PLACES[place](kind(marker)), path)
    with pytest.raises(ForbiddenContentError) as error:
        ROUTES[route](path)
    assert not marker.exists()
    message = str(error.value)
    assert message.startswith(f'{path} holds ')
    assert message.endswith(': do not load this file')
    assert 'weights_only' not in message
    assert '\n' not in message


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ('text', 'it holds str'),
        ([1], 'it holds list'),
        ({'state_dict': 5}, 'it holds int'),
        ({'state_dict': {'a': 'x'}}, 'a is str, not a tensor'),
        ({'state_dict': {1: torch.zeros(1)}}, '1 is int, not the name'),
        ({'state_dict': None}, 'it holds NoneType'),
    ],
)
@pytest.mark.parametrize('write', [zipped, legacy])
def test_other_content_is_named(write, content, reason, tmp_path):
    path = tmp_path / 'x.pth'
    write(content, path)
    message = rf'x\.pth is no checkpoint \({reason}.*again'
    for route in ('read', 'init_cfg'):
        with pytest.raises(ValueError, match=message):
            ROUTES[route](path)


def torn(data):
    return data[: len(data) // 2]


def flipped(data):
    return bytes(255 - byte for byte in data[:100]) + data[100:]


@pytest.mark.parametrize(
    'damage',
    [
        torn,
        flipped,
        lambda data: b'',
        lambda data: b'<html>404</html>',
        lambda data: b'\x00' * 1000,
        lambda data: b'PK\x03\x04' + b'\xff' * 100,
    ],
)
@pytest.mark.parametrize('write', [zipped, legacy])
def test_damaged_file_is_one_line(write, damage, tmp_path):
    path = tmp_path / 'x.pth'
    write({'state_dict': nn.Linear(50, 50).state_dict()}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r'x\.pth (cannot be read|is no ch)') as error:
        read_checkpoint(path)
    assert str(error.value).endswith('make or download it again.')
    assert '\n' not in str(error.value)
    assert '()' not in str(error.value)


def saved_with_checksums(path, checksums):
    torch.serialization.set_crc32_options(checksums)
    try:
        zipped({'state_dict': {'weight': torch.arange(9.0)}}, path)
    finally:
        torch.serialization.set_crc32_options(True)


def test_file_without_checksums_is_read(tmp_path):
    saved_with_checksums(tmp_path / 'x.pth', checksums=False)
    state = read_checkpoint(tmp_path / 'x.pth')['state_dict']
    assert torch.equal(state['weight'], torch.arange(9.0))


@pytest.mark.parametrize('shapes_only', [False, True])
def test_changed_byte_is_found(tmp_path, shapes_only):
    path = tmp_path / 'x.pth'
    saved_with_checksums(path, checksums=True)
    data = path.read_bytes()
    path.write_bytes(data.replace(torch.arange(9.0).numpy().tobytes(), b'\1' * 36))
    with pytest.raises(ValueError, match='checksum of x/data/0 is wrong'):
        read_checkpoint(path, shapes_only=shapes_only)


def test_zip_without_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w') as file:
        file.writestr('readme.txt', 'no weights')
    with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
        read_checkpoint(tmp_path / 'x.pth')


def test_damaged_safetensors(tmp_path):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(b'\x10\x00\x00\x00\x00\x00\x00\x00{"a": 1}')
    with pytest.raises(ValueError, match=r'cannot be read as safetensors \(.+\)'):
        load_strict(nn.Linear(1, 1), str(path))


def test_whole_legacy_file_can_be_resumed(tmp_path):
    path = tmp_path / 'iter_1.pth'
    legacy({'state_dict': nn.Linear(1, 1).state_dict()}, path)
    check_resumable(str(path), str(tmp_path))


def test_weights_below_model_are_found(tmp_path):
    """Many research codes save them so, with numbers beside."""
    weights = nn.Linear(1, 1).state_dict()
    zipped({'model': weights, 'epoch': 3}, tmp_path / 'x.pth')
    found = read_checkpoint(tmp_path / 'x.pth')['state_dict']
    assert found == weights


def test_check_fits(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    path = tmp_path / 'x.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    check_fits(model, path)
    torch.save({f'module.{key}': v for key, v in model.state_dict().items()}, path)
    check_fits(model, path)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    check_fits(model, path)
    wider = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5), nn.Linear(5, 1))
    with pytest.raises(ValueError, match=r'4 of 6') as error:
        check_fits(wider, path)
    assert '1.weight is (4, 3), not (5, 3)' in str(error.value)
    assert '2.weight is missing' in str(error.value)
    check_fits(wider, path, ignore=['1.', '2.'])
    path.write_text('<html>404</html>')
    with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
        check_fits(model, path)
