"""Test the colour distortion of the weak view."""

import numpy as np
import pytest
from mmdet.datasets.transforms import PhotoMetricDistortion

from mmcast.datasets.transforms import ColorDistortion


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


def red(value=200):
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 2] = value  # BGR
    return image


NOTHING = dict(
    brightness_delta=0, contrast_range=(1, 1), saturation_range=(1, 1), hue_delta=0
)


def test_without_strength_colours_keep_their_places():
    ours, theirs = ColorDistortion(**NOTHING), PhotoMetricDistortion(**NOTHING)
    for _ in range(50):
        found = ours.transform(dict(img=red()))['img']
        np.testing.assert_allclose(found, red(), atol=0.01)
    changed = [
        theirs.transform(dict(img=red()))['img'][0, 0, 2] < 100 for _ in range(50)
    ]
    assert any(changed)  # mmdet's makes red blue or green


def test_values_stay_in_their_range_and_change():
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    distort = ColorDistortion(hue_delta=36)
    means = set()
    for _ in range(100):
        found = distort.transform(dict(img=noise))['img']
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 255
        means.add(round(float(found.mean()), 3))
    assert len(means) > 50


@pytest.mark.parametrize(('degrees', 'least'), [(36, 25), (0, 0)])
def test_hue_turns_by_degrees(degrees, least):
    """Red turns towards yellow or magenta, where one other channel grows."""
    distort = ColorDistortion(**{**NOTHING, 'hue_delta': degrees})
    found = [distort.transform(dict(img=red(255)))['img'][0, 0] for _ in range(200)]
    # 60 degrees make the second channel as large as the first.
    turned = max(60 * float(colour[:2].max()) / 255 for colour in found)
    assert least <= turned <= degrees + 0.01
