"""Test the rule for online pseudo-labels on hand-made logits."""

import math

import pytest
import torch
from mmdet.structures.mask import BitmapMasks

from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.losses import Grid
from mmcast.models.mask_nms import mask_nms
from mmcast.models.pseudo_labels import (
    count_found,
    mask_boxes,
    masks_on_grid,
    query_pseudo_labels,
)


def class_logits(*rows):
    """Return logits whose softmax is exactly these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


def mask_logits(*areas):
    """Return 4x4 maps of equal pixels whose probabilities sum to the given areas."""
    maps = [torch.full((4, 4), area / 16, dtype=torch.float64) for area in areas]
    return FactoredMasks(torch.stack(maps).logit()[None])


def test_each_condition_drops_its_queries():
    classes = class_logits(
        (0.80, 0.15, 0.05),  # kept
        (0.10, 0.05, 0.85),  # no object
        (0.69, 0.01, 0.30),  # unsure
        (0.02, 0.71, 0.27),  # kept
        (0.90, 0.05, 0.05),  # too small
        (0.90, 0.05, 0.05),  # kept, the same object as the first
    )
    masks = mask_logits(12, 12, 12, 5.1, 4.9, 12)
    labels, found, scores = query_pseudo_labels(classes, masks)
    assert labels.tolist() == [0, 1, 0]
    assert scores.tolist() == pytest.approx([0.80, 0.71, 0.90])
    assert found.dtype == torch.bool
    # An area of 5.1 over 16 pixels is 0.32 each: large enough, but no pixel above 0.5.
    assert found.flatten(1).sum(1).tolist() == [16, 0, 16]


def test_no_object_counts_in_the_softmax():
    """Check that 0.55 stays below 0.7; without "no object" it would be 0.92."""
    classes = class_logits((0.55, 0.05, 0.40))
    assert len(query_pseudo_labels(classes, mask_logits(12))[0]) == 0


def test_thresholds_are_exclusive():
    classes = torch.tensor([[math.log(3.0), 0.0, -torch.inf]], dtype=torch.float64)
    masks = FactoredMasks(
        torch.zeros(1, 1, 2, 5, dtype=torch.float64)
    )  # ten pixels of 0.5
    p = float(classes.softmax(-1).max())
    for score_thr, kept in ((p - 1e-9, 1), (p, 0)):
        labels, *_ = query_pseudo_labels(classes, mask_logits(12), score_thr)
        assert len(labels) == kept
    for min_area, kept in ((5.0 - 1e-9, 1), (5.0, 0)):
        labels, found, _ = query_pseudo_labels(classes, masks, 0.7, min_area)
        assert len(labels) == kept
        assert not found.any()  # 0.5 is not above 0.5


def test_masks_are_thresholded_at_one_half():
    masks = torch.tensor([[[9.0, 9.0, 9.0], [9.0, 9.0, 0.01], [9.0, -0.01, -9.0]]])
    _, found, _ = query_pseudo_labels(
        class_logits((0.9, 0.1)), FactoredMasks(masks[None]), min_area=0.0
    )
    assert torch.equal(found, masks > 0)


def test_no_confident_query_gives_empty_tensors():
    labels, found, scores = query_pseudo_labels(
        class_logits((0.1, 0.9)), FactoredMasks(torch.zeros(1, 1, 4, 6))
    )
    assert (labels.shape, found.shape, scores.shape) == ((0,), (0, 4, 6), (0,))
    assert labels.dtype == torch.int64


def test_padding_has_no_probability():
    """Check the masks, and their areas: six cells of 0.95 are 5.7, all 24 are 22.9."""
    classes, masks = (
        class_logits((0.9, 0.1)),
        FactoredMasks(torch.full((1, 1, 4, 6), 3.0)),
    )
    for min_area, rest in ((5.6, 1), (5.8, 0)):
        _, found, _ = query_pseudo_labels(classes, masks, 0.7, min_area, part=(2, 3))
        expected = torch.zeros(4, 6, dtype=torch.bool)
        expected[:2, :3] = True
        assert torch.equal(found, expected.expand(rest, 4, 6))
    _, found, _ = query_pseudo_labels(classes, masks, 0.7, 22.8)
    assert found.all()
    assert len(found) == 1


@pytest.mark.parametrize('kind', ['tensor', 'bitmap'])
@pytest.mark.parametrize('padded', [True, False])
def test_masks_on_grid_are_read_at_cell_centres(kind, padded):
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
        ([0], [(0, 2)], 1),  # an IoU of exactly 0.5
        ([0], [(0, 1)], 0),
        ([0, 0, 0], [(0, 4), (0, 4), (0, 3)], 1),  # one instance is found once
        ([0], [(3, 3)], 0),  # an empty mask
        ([], [], 0),
    ],
)
def test_count_found(labels, spans, found):
    truth = torch.tensor([0, 1, 0]), boxes((0, 4), (4, 8), (9, 11))
    labels = torch.tensor(labels, dtype=torch.int64)
    assert count_found(labels, boxes(*spans), *truth) == found


def test_mask_nms_is_greedy():
    """Compare with the definition, on random masks with many overlaps."""
    g = torch.Generator().manual_seed(0)
    masks = torch.rand(30, 6, 6, generator=g) > 0.4
    masks[10:20] = masks[:10]  # duplicates
    scores = torch.rand(30, generator=g)
    for threshold in (0.3, 0.6, 0.9):
        kept = []
        for i in sorted(range(30), key=lambda i: -scores[i]):
            ious = [
                float((masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum())
                for j in kept
            ]
            if all(iou <= threshold for iou in ious):
                kept.append(i)
        assert mask_nms(masks, scores, threshold).tolist() == kept
        assert 0 < len(kept) < 30
    assert mask_nms(masks[:0], scores[:0], 0.5).tolist() == []


def test_mask_boxes_are_those_of_mmdet():
    g = torch.Generator().manual_seed(0)
    masks = torch.zeros(5, 9, 12, dtype=torch.bool)
    masks[:, 2:7, 3:11] = torch.rand(5, 5, 8, generator=g) > 0.8
    bitmaps = BitmapMasks(masks.numpy().astype('uint8'), 9, 12)
    assert torch.equal(mask_boxes(masks), bitmaps.get_bboxes('hbox').tensor)
    assert mask_boxes(masks[:0]).shape == (0, 4)
