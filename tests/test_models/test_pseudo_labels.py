"""The rule for online pseudo-labels on logits made by hand."""

import math

import pytest
import torch
from mmdet.structures.mask import BitmapMasks

from mmcast.models.losses import Grid
from mmcast.models.pseudo_labels import (
    blank_margin,
    count_found,
    masks_on_grid,
    query_pseudo_labels,
)


def class_logits(*rows):
    """Logits whose softmax is exactly these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


def mask_logits(*areas):
    """A 4x4 map a query, of equal pixels that sum to ``area`` in probability."""
    maps = [torch.full((4, 4), area / 16, dtype=torch.float64) for area in areas]
    return torch.stack(maps).logit()


def test_each_condition_drops_what_it_shall():
    classes = class_logits(
        (0.80, 0.15, 0.05),  # kept
        (0.10, 0.05, 0.85),  # no object
        (0.69, 0.01, 0.30),  # unsure
        (0.02, 0.71, 0.27),  # kept
        (0.90, 0.05, 0.05),  # too small
        (0.90, 0.05, 0.05),  # kept, of the same object as the first
    )
    masks = mask_logits(12, 12, 12, 5.1, 4.9, 12)
    labels, found, scores = query_pseudo_labels(classes, masks)
    assert labels.tolist() == [0, 1, 0]
    assert scores.tolist() == pytest.approx([0.80, 0.71, 0.90])
    assert found.dtype == torch.bool
    # 5.1 of 16 pixels is 0.32 each: enough area in sum, and no pixel above a half.
    assert found.flatten(1).sum(1).tolist() == [16, 0, 16]


def test_no_object_counts_in_the_softmax():
    """0.71 of the objects' probability alone is not 0.7 of all."""
    classes = class_logits((0.55, 0.05, 0.40))
    assert len(query_pseudo_labels(classes, mask_logits(12))[0]) == 0


def test_thresholds_are_exclusive():
    classes = torch.tensor([[math.log(3.0), 0.0, -torch.inf]], dtype=torch.float64)
    masks = torch.zeros(1, 2, 5, dtype=torch.float64)  # ten pixels of a half
    p = float(classes.softmax(-1).max())
    for score_thr, kept in ((p - 1e-9, 1), (p, 0)):
        labels, *_ = query_pseudo_labels(classes, mask_logits(12), score_thr)
        assert len(labels) == kept
    for min_area, kept in ((5.0 - 1e-9, 1), (5.0, 0)):
        labels, found, _ = query_pseudo_labels(classes, masks, 0.7, min_area)
        assert len(labels) == kept
        assert not found.any()  # a half is not above a half


def test_masks_are_cut_at_a_half():
    masks = torch.tensor([[[9.0, 9.0, 9.0], [9.0, 9.0, 0.01], [9.0, -0.01, -9.0]]])
    _, found, _ = query_pseudo_labels(class_logits((0.9, 0.1)), masks)
    assert torch.equal(found, masks > 0)


def test_nothing_confident_is_empty_of_the_right_shape():
    labels, found, scores = query_pseudo_labels(
        class_logits((0.1, 0.9)), torch.zeros(1, 4, 6)
    )
    assert (labels.shape, found.shape, scores.shape) == ((0,), (0, 4, 6), (0,))
    assert labels.dtype == torch.int64


def test_the_margin_has_no_probability():
    """Cells of 4 pixels; an image of 9x14 in 16x24 reaches 2 and 3 cells' centres."""
    inside = blank_margin(torch.full((2, 4, 6), 3.0), (9, 14), (16, 24)).sigmoid() > 0
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[:2, :3] = True
    assert torch.equal(inside, expected.expand(2, 4, 6))
    whole = torch.randn(2, 4, 6)
    assert torch.equal(blank_margin(whole, (16, 24), (16, 24)), whole)


@pytest.mark.parametrize('kind', ['tensor', 'bitmap'])
@pytest.mark.parametrize('padded', [True, False])
def test_masks_on_a_grid(kind, padded):
    masks = torch.rand(3, 10, 14) > 0.5
    whole = torch.zeros(3, 16, 24, dtype=torch.bool)
    whole[:, :10, :14] = masks
    given = whole if padded else masks
    if kind == 'bitmap':
        given = BitmapMasks(given.numpy().astype('uint8'), *given.shape[1:])
    grid = Grid.without_padding(1, (4, 6))
    found = masks_on_grid(given, (16, 24), grid)
    for row in range(4):
        for column in range(6):
            expected = whole[:, 4 * row + 2, 4 * column + 2]
            assert torch.equal(found[:, row, column], expected)


def boxes(*spans):
    masks = torch.zeros(len(spans), 2, 12, dtype=torch.bool)
    for mask, (start, end) in zip(masks, spans, strict=True):
        mask[:, start:end] = True
    return masks


@pytest.mark.parametrize(
    ('labels', 'spans', 'found'),
    [
        ([0, 1], [(0, 4), (4, 8)], 2),
        ([1, 0], [(0, 4), (4, 8)], 0),  # other classes
        ([0], [(0, 2)], 1),  # an intersection over union of exactly a half
        ([0], [(0, 1)], 0),
        ([0, 0, 0], [(0, 4), (0, 4), (0, 3)], 1),  # one instance is found once
        ([0], [(3, 3)], 0),  # an empty mask
        ([], [], 0),
    ],
)
def test_what_is_found(labels, spans, found):
    truth = torch.tensor([0, 1, 0]), boxes((0, 4), (4, 8), (9, 11))
    labels = torch.tensor(labels, dtype=torch.int64)
    assert count_found(labels, boxes(*spans), *truth) == found
