"""Compare with pycocotools on the whole mask."""

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

from mmcast.datasets import mask_encoding
from mmcast.datasets.mask_encoding import encode


@pytest.mark.parametrize('seed', range(30))
def test_windows_are_encoded_as_the_whole(seed, monkeypatch):
    monkeypatch.setattr(mask_encoding, '_SMALL', 0)
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2)
    mask = np.zeros((height, width), bool)
    top, left = rng.integers(0, height), rng.integers(0, width)
    bottom, right = rng.integers(top, height + 1), rng.integers(left, width + 1)
    share = rng.choice([0.1, 0.5, 0.9, 1.0])
    mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < share
    whole = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    assert encode(torch.from_numpy(mask)) == whole


@pytest.mark.parametrize('value', [0, 1])
def test_empty_and_full_masks(value, monkeypatch):
    monkeypatch.setattr(mask_encoding, '_SMALL', 0)
    mask = np.full((3, 4), value, np.uint8)
    assert encode(torch.from_numpy(mask)) == mask_utils.encode(np.asfortranarray(mask))


def test_small_masks_are_encoded_whole():
    mask = np.eye(5, dtype=np.uint8)
    assert encode(torch.from_numpy(mask)) == mask_utils.encode(np.asfortranarray(mask))


@pytest.mark.parametrize('seed', range(10))
def test_enlarged_masks(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 7)) < rng.choice([0.2, 0.9])
    whole = mask.repeat(3, 0).repeat(3, 1)[:14, :19].astype(np.uint8)
    expected = mask_utils.encode(np.asfortranarray(whole))
    assert encode(torch.from_numpy(mask), 3, (14, 19)) == expected
