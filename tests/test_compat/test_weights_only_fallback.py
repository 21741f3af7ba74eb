"""Test that no checkpoint is unpickled without `weights_only=True`."""

import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint

from mmcast.compat import weights_only_fallback


class Payload:
    """Executed if a file with it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ('the file was executed',)


def test_the_forks_fallback_is_replaced(monkeypatch, tmp_path):
    torch.save({'weight': Payload()}, tmp_path / 'hostile.pth')
    monkeypatch.setattr(checkpoint, '_safe_torch_load', pytest.fail, raising=False)
    weights_only_fallback.apply()
    with pytest.raises(pickle.UnpicklingError):
        checkpoint._safe_torch_load(tmp_path / 'hostile.pth')


def test_own_checkpoints_load_twice(tmp_path):
    torch.save({'log': HistoryBuffer([1.0], [1])}, tmp_path / 'own.pth')
    for _ in range(2):
        content = checkpoint.load_from_local(str(tmp_path / 'own.pth'), 'cpu')
        assert content['log'].mean() == 1.0


def test_mmengine_without_it_is_left_alone(monkeypatch):
    monkeypatch.delattr(checkpoint, '_safe_torch_load', raising=False)
    weights_only_fallback.apply()
    assert not hasattr(checkpoint, '_safe_torch_load')
