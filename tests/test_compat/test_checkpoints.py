"""Test that mmengine's checkpoints load, and that files that run code do not."""

import builtins
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner.checkpoint import load_checkpoint

import mmcast  # noqa: F401  (applies compat)

LOAD = 'import sys, torch; torch.load(sys.argv[1])'


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Save a checkpoint with all that mmengine's runner puts into one."""
    hub = MessageHub.get_instance('test_checkpoints')
    for step in range(3):
        hub.update_scalar('train/loss', np.float32(1.5 * step).item())
    hub.update_info('iter', 3)
    hub.update_info('epoch', np.int64(1))
    content = {
        'message_hub': hub.state_dict(),
        'state_dict': {'weight': torch.ones(2, 1)},
        'meta': {'dataset_meta': {'palette': np.eye(3, dtype=np.uint8)}},
        'score': np.float32(0.25),
    }
    torch.save(content, tmp_path / 'checkpoint.pth')
    return tmp_path / 'checkpoint.pth'


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-c', code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_without_the_fix_torch_refuses_the_checkpoint(checkpoint: Path) -> None:
    result = run(LOAD, checkpoint)
    assert result.returncode
    assert 'Weights only load failed' in result.stderr


def test_with_the_fix_everything_is_loaded(checkpoint: Path) -> None:
    content = torch.load(checkpoint)
    buffer = content['message_hub']['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.mean() == 1.5
    assert buffer.statistics('max') == 3.0
    assert content['message_hub']['runtime_info']['epoch'] == 1
    assert content['meta']['dataset_meta']['palette'].tolist() == np.eye(3).tolist()
    assert content['score'] == np.float32(0.25)


@pytest.mark.parametrize('dtype', list('?bhilqBHILQefd'))
def test_arrays_and_scalars_are_loaded(tmp_path: Path, dtype: str) -> None:
    array = np.array([0, 1], dtype)
    torch.save({'array': array, 'scalar': array[1]}, tmp_path / 'x.pth')
    content = torch.load(tmp_path / 'x.pth')
    np.testing.assert_array_equal(content['array'], array, strict=True)
    assert content['scalar'] == array[1]
    assert content['scalar'].dtype == array.dtype


class Call:
    """An object that is pickled as a call of `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class ByName:
    """An object that is pickled as `getattr`, like a HistoryBuffer's methods."""

    def __init__(self, owner: object, name: str) -> None:
        self.call = getattr, (owner, name)

    def __reduce__(self) -> tuple:
        return self.call


def hostile(kind: str, witness: Path) -> object:
    command = f'touch {witness}'
    code = f'open({str(witness)!r}, "w")'
    return {
        'os.system': Call(os.system, command),
        'eval': Call(builtins.eval, code),
        'exec': Call(builtins.exec, code),
        'subprocess': Call(subprocess.call, ['touch', str(witness)]),
        'class': ByName(HistoryBuffer, '__init__'),
        'globals': ByName(HistoryBuffer, '__subclasses__'),
        'register': ByName(HistoryBuffer, 'register_statistics'),
        'tensor': ByName(torch.Tensor, '__init__'),
        'builtin': ByName(np.ndarray, 'tofile'),
        'tofile': Call(np.ndarray.tofile, np.zeros(1), str(witness)),
        'statistics': Call(HistoryBuffer.statistics, HistoryBuffer(), 'mean'),
    }[kind]


@pytest.mark.parametrize(
    'kind',
    [
        'os.system',
        'eval',
        'exec',
        'subprocess',
        'class',
        'globals',
        'register',
        'tensor',
        'builtin',
        'tofile',
        'statistics',
    ],
)
def test_hostile_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Load it with mmengine's own function, with weights that fit the model."""
    witness = tmp_path / 'executed'
    path = tmp_path / 'hostile.pth'
    model = torch.nn.Linear(1, 2)
    payload = hostile(kind, witness)
    torch.save({'state_dict': model.state_dict(), 'extra': payload}, path)
    with pytest.raises(pickle.UnpicklingError, match='Weights only load failed'):
        load_checkpoint(model, str(path))
    assert not witness.exists()


def test_hostile_files_run_code_when_trusted(tmp_path: Path) -> None:
    """Check that the files above run their code when pickle loads them."""
    for kind in ('os.system', 'eval', 'exec', 'subprocess', 'tofile'):
        witness = tmp_path / kind
        pickle.loads(pickle.dumps(hostile(kind, witness), protocol=2))
        assert witness.exists()
