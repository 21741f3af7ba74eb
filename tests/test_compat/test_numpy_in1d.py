"""Test `numpy.in1d`, which cityscapesscripts' evaluation needs."""

import numpy as np
import pytest

from mmcast.compat import numpy_in1d


def test_in1d_is_restored(monkeypatch):
    monkeypatch.delattr(np, 'in1d', raising=False)
    with pytest.raises(AttributeError):
        _ = np.in1d
    numpy_in1d.apply()
    grid = np.array([[1, 2], [3, 1]])
    assert np.in1d(grid, [1, 3]).tolist() == [True, False, True, True]
    assert np.in1d(grid, [1, 3], invert=True).tolist() == [False, True, False, False]


def test_numpys_own_in1d_is_not_replaced(monkeypatch):
    own = object()
    monkeypatch.setattr(np, 'in1d', own, raising=False)
    numpy_in1d.apply()
    assert np.in1d is own
