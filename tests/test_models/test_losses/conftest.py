"""Fixtures of the contrast's tests."""

import pytest

from mmcast.models.losses import negatives

from .contrast_cases import make


@pytest.fixture
def batch():
    return make()


@pytest.fixture
def blocks(monkeypatch):
    """Use small blocks whose borders are inside images."""
    monkeypatch.setattr(negatives, 'block_shape', lambda device: (4, 5))
