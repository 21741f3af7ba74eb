"""Test the checkpoint wrapper that replaces fairscale's in mmdet."""

import importlib

import pytest
import torch
from torch import nn

from mmcast.compat import fairscale_checkpoint

USERS = fairscale_checkpoint._USERS


def layers(name):
    return importlib.import_module(f'mmdet.models.layers.transformer.{name}')


@pytest.mark.parametrize('name', USERS)
def test_wrapper_keeps_names_and_gradients(name):
    linear = nn.Linear(3, 2)
    wrapped = layers(name).checkpoint_wrapper(linear)
    assert list(wrapped.state_dict()) == ['weight', 'bias']
    wrapped.load_state_dict(linear.state_dict())
    x = torch.randn(4, 3, requires_grad=True)
    wrapped(input=x).sum().backward()
    torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(4, 3))


def test_fairscales_own_wrapper_is_replaced(monkeypatch):
    """Replace it because a second pass fails under DistributedDataParallel."""
    own = object()
    monkeypatch.setattr(layers(USERS[0]), 'checkpoint_wrapper', own)
    fairscale_checkpoint.apply()
    assert layers(USERS[0]).checkpoint_wrapper is not own
