"""Test the figures of the contrast's negatives on hand-made batches."""

import pytest
import torch

from mmcast.models.losses import Grid, PixelContrastLoss
from mmcast.models.losses.contrast_figures import contrast_figures

HALVES = torch.tensor([0, 0, 1, 1]).repeat(4)  # instances of 4 x 4 cells


def halves(b=1):
    """Make a left and a right half, each with a query, an embedding and an instance."""
    z = torch.zeros(b, 2, 4, 4)
    z[:, 0, :, :2], z[:, 1, :, 2:] = 1.0, 1.0
    masks = torch.full((b, 2, 4, 4), -20.0)
    masks[:, 0, :, :2] = masks[:, 1, :, 2:] = 20.0
    classes = torch.tensor([[[9.0, 0.0], [9.0, 0.0]]]).expand(b, -1, -1)
    grid = Grid.without_padding(b, (4, 4))
    return dict(weak=z, strong=z, masks=masks, classes=classes, grid=grid)


def test_metrics_of_a_perfect_model():
    loss = PixelContrastLoss(candidates='same_image', num_negatives=50)
    found = contrast_figures(loss, **halves(), instances=[HALVES], anchors=100)
    assert found['margin'] == pytest.approx(1.0)
    assert found['fnr_gt'] == 0
    assert 'fnr_query' not in found
    bins = [found[f'negatives/bin_{i:02d}'] for i in range(10)]
    assert bins[5] == 1  # cosines of 0
    assert sum(bins) == pytest.approx(1)


def test_false_negative_rates_by_hand():
    """Use uniform negatives and an instance of 8 of 16 pixels: 7 of 15 are its own."""
    seen = halves(2)
    loss = PixelContrastLoss(
        candidates='same_image', score='uniform', num_negatives=4000
    )
    torch.manual_seed(0)
    left = torch.where(HALVES == 0, 0, -1)
    found = contrast_figures(loss, **seen, instances=[left, None], anchors=100)
    assert found['fnr_gt'] == pytest.approx(7 / 15, abs=0.01)
    assert found['fnr_query'] == pytest.approx(7 / 15, abs=0.01)
    assert found['margin'] == pytest.approx(8 / 15, abs=0.01)
    # Query 0 has all pixels, as before training: each negative is a false one.
    seen['masks'] = torch.full((2, 2, 4, 4), -20.0)
    seen['masks'][:, 0] = 20.0
    found = contrast_figures(loss, **seen, instances=[None, None], anchors=100)
    assert found['fnr_query'] == 1
    assert 'fnr_gt' not in found


def test_without_negatives_there_are_no_metrics():
    seen = halves()
    seen['masks'] = torch.zeros(1, 2, 4, 4)
    found = contrast_figures(PixelContrastLoss(), **seen, instances=[None], anchors=100)
    assert found == {}
