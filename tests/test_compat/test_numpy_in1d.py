"""cityscapesscripts' evaluation needs `numpy.in1d`."""

import numpy as np
import pytest

from mmcast.compat import numpy_in1d


def test_in1d_is_back_and_does_what_it_did(monkeypatch):
    monkeypatch.delattr(np, 'in1d', raising=False)
    with pytest.raises(AttributeError):
        _ = np.in1d
    numpy_in1d.apply()
    grid = np.array([[1, 2], [3, 1]])
    assert np.in1d(grid, [1, 3]).tolist() == [True, False, True, True]
    assert np.in1d(grid, [1, 3], invert=True).tolist() == [False, True, False, False]


def test_an_own_in1d_of_numpy_stays(monkeypatch):
    own = object()
    monkeypatch.setattr(np, 'in1d', own, raising=False)
    numpy_in1d.apply()
    assert np.in1d is own
