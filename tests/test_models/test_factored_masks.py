"""Test factored masks against the logits that they stand for."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import point_sample

from mmcast.models.factored_masks import (
    FactoredMasks,
    as_factored,
    joined,
    read_bool_masks,
)

B, K, C, SIZE = 2, 5, 3, (6, 7)


def make(scale, queries=K):
    """Return masks in float64, their logits from plain products, and the leaves."""
    g = torch.Generator().manual_seed(0)
    features = torch.randn(B, C, *SIZE, dtype=torch.float64, generator=g)
    embed = torch.randn(B, queries, C, dtype=torch.float64, generator=g)
    leaves = (features.requires_grad_(), embed.requires_grad_())
    maps = features
    if scale > 1:
        size = [scale * side for side in SIZE]
        maps = F.interpolate(maps, size, mode='bilinear', align_corners=True)
    logits = torch.einsum('bkc,bchw->bkhw', embed, maps)
    return FactoredMasks(features, embed, scale), logits, leaves


@pytest.fixture(params=[1, 2, 3])
def both(request):
    return make(request.param)


def same(found, expected, leaves):
    """Compare values and the gradients of a random projection."""
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    grads = [torch.autograd.grad((x * weight).sum(), leaves) for x in (found, expected)]
    torch.testing.assert_close(*grads)


def test_dense_masks_are_the_product(both):
    masks, logits, leaves = both
    assert masks.shape == logits.shape
    assert len(masks) == B
    same(masks.dense(), logits, leaves)


def test_some_queries_in_their_order(both):
    masks, logits, leaves = both
    queries = [torch.tensor([4, 0]), torch.tensor([2])]
    expected = torch.cat([logits[0][[4, 0]], logits[1][[2]]])
    same(masks.of(queries), expected, leaves)


@pytest.mark.parametrize('scale', [1, 2])
def test_no_query_keeps_the_graph(scale):
    masks, logits, leaves = make(scale)
    none = masks.of([torch.zeros(0, dtype=torch.int64)] * B)
    assert none.shape == (0, *logits.shape[2:])
    grads = torch.autograd.grad(none.sum(), leaves)
    assert not any(grad.any() for grad in grads)


def test_computed_masks_are_the_same_masks(both):
    masks, logits, leaves = both
    low = masks.computed([torch.tensor([4, 0]), torch.tensor([2, 2])])
    expected = torch.stack([logits[0][[4, 0]], logits[1][[2, 2]]])
    assert low.features.shape[2:] == SIZE
    same(low.dense(), expected, leaves)
    dense = FactoredMasks(logits).computed([torch.tensor([1])] * B)
    assert torch.equal(dense.dense(), logits[:, 1:2])


@pytest.mark.parametrize('size', [(3, 4), (6, 7), (11, 9), (1, 1)])
def test_resized_masks_are_resized_logits(both, size):
    masks, logits, leaves = both
    expected = F.interpolate(logits, size, mode='bilinear', align_corners=False)
    same(masks.at(size), expected, leaves)


@pytest.mark.parametrize('padding', ['zeros', 'border'])
def test_points_are_read_bilinearly(both, padding):
    masks, logits, leaves = both
    points = torch.rand(B, 40, 2, dtype=torch.float64)
    points[:, :4] = torch.tensor([[0, 0], [1, 1], [0, 1], [0.999, 0.5]])
    expected = point_sample(logits, points, padding_mode=padding)
    same(masks.at_points(points, padding), expected, leaves)


def test_points_of_half_precision_masks_are_exact():
    masks, logits, _ = make(2)
    points = torch.rand(B, 9, 2, dtype=torch.float64)
    half = FactoredMasks(*(factor.half() for factor in masks.factors[::-1]), 2)
    read = half.at_points(points)
    assert read.dtype == torch.float32
    torch.testing.assert_close(
        read.double(), point_sample(logits, points), atol=2e-2, rtol=0
    )


def test_logits_are_masks_too():
    _, logits, _ = make(1)
    masks = as_factored(logits)
    assert as_factored(masks) is masks
    assert masks.shape == logits.shape
    assert torch.equal(masks.dense(), logits)
    assert torch.equal(
        masks.of([torch.tensor([1]), torch.tensor([3])])[1], logits[1, 3]
    )
    expected = F.interpolate(logits, (3, 3), mode='bilinear')
    assert torch.equal(masks.at((3, 3)), expected)
    points = torch.rand(B, 6, 2, dtype=torch.float64)
    torch.testing.assert_close(masks.at_points(points), point_sample(logits, points))


def test_images_are_sliced_and_layers_joined(both):
    masks, logits, _ = both
    assert torch.equal(masks[1:].dense(), masks.dense()[1:])
    assert not masks.detach().dense().requires_grad
    other = FactoredMasks(masks.features, 2 * masks.embed, masks.scale)
    expected = torch.cat([logits, 2 * logits], dim=1)
    torch.testing.assert_close(joined([masks, other]).dense(), expected)
    dense = joined([as_factored(logits), as_factored(2 * logits)])
    torch.testing.assert_close(dense.dense(), expected)


@pytest.mark.parametrize('shared', [True, False])
def test_bool_masks_are_read_as_floats_are(shared):
    masks = torch.rand(4, 5, 9) > 0.5
    points = torch.rand(4, 300, 2, dtype=torch.float64)
    points[:, 0], points[:, 1] = 0, 1
    points[:, 2] = torch.tensor([-0.3, 1.4], dtype=torch.float64)
    if shared:
        points = points[:1].expand(4, -1, -1)
    expected = point_sample(masks[:, None].double(), points)[:, 0]
    found = read_bool_masks(masks, points[0] if shared else points)
    torch.testing.assert_close(found, expected)
    assert read_bool_masks(masks[:0], points[0]).shape == (0, 300)
