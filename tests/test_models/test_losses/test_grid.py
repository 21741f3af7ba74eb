"""Test the positions of cells, and that padding takes no part in the contrast."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcast.models.losses import Grid, PixelContrastLoss

from . import oracle

B, K, C1, D, h, w = 3, 4, 3, 5, 3, 4
SIZES = [(30, 40), (20, 40), (11, 21)]  # in pixels; a cell has 10x10
PADDED = (30, 40)
PARTS = ((3, 4), (2, 4), (1, 2))
OPTIONS = dict(max_anchors=None, max_candidates=None, loss_weight=1.0)


def make(seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (B, D, h, w), (B, D, h, w), (B, K, 2 * h, 2 * w), (B, K, C1)
    return [torch.randn(shape, generator=g).double() * 2 for shape in shapes]


def scrambled(inputs):
    """Replace embeddings and masks in the padding by random values."""
    inputs = [x.clone() for x in inputs]
    for b, (rows, columns) in enumerate(PARTS):
        for x, fine in zip(inputs[:3], (1, 1, 2), strict=True):
            x[b, :, fine * rows :] = torch.randn_like(x[b, :, fine * rows :])
            x[b, :, :, fine * columns :] = torch.randn_like(x[b, ..., fine * columns :])
    return inputs


def grid():
    return Grid.of_map((h, w), SIZES, PADDED)


@pytest.mark.parametrize(
    ('tokens', 'pool', 'patch'),
    [((37, 74), 2, 14), ((45, 45), 2, 14), ((37, 74), 3, 14), ((16, 32), 1, 32)],
)
def test_pooled_cells_are_at_the_mean_of_their_tokens(tokens, pool, patch):
    """Compare with the coordinates of the tokens, pooled like the features."""
    padded = tuple(n * patch for n in tokens)
    y, x = (torch.arange(n).double() * patch + patch / 2 for n in tokens)
    coordinates = torch.stack(torch.meshgrid(y, x, indexing='ij'))[None]
    pooled = F.avg_pool2d(coordinates, pool, ceil_mode=True)[0]
    found = Grid.of_map(tokens, [padded], padded, pool)
    torch.testing.assert_close(found.y * padded[0], pooled[0, :, 0])
    torch.testing.assert_close(found.x * padded[1], pooled[1, 0])
    every = torch.arange(pooled[0].numel())
    expected = pooled.flatten(1).flip(0).T / torch.tensor(padded[::-1])
    torch.testing.assert_close(found.points(every), expected)


def test_a_cell_is_in_the_image_if_its_centre_is():
    assert grid().parts == PARTS
    found = Grid.of_map((37, 74), [(512, 1024), (14, 15), (3, 3)], (518, 1036), 2)
    assert found.parts == ((19, 37), (1, 1), (1, 1))  # at least one cell
    assert Grid.without_padding(2, (3, 4)).parts == ((3, 4), (3, 4))


@pytest.mark.parametrize('kind', ['expected', 'sampled', 'distinct'])
@pytest.mark.parametrize('most', [None, 9])
def test_padding_does_not_change_the_loss(kind, most):
    options = {**OPTIONS, 'max_anchors': most, 'max_candidates': most}
    loss = PixelContrastLoss(
        negatives='expected' if kind == 'expected' else 'sampled',
        replacement=kind != 'distinct',
        num_negatives=7,
        **options,
    )
    results = []
    for inputs in (make(), scrambled(make())):
        views = [x.requires_grad_() for x in inputs[:2]]
        torch.manual_seed(0)
        value = loss(*inputs, grid())
        results.append([value.detach(), *torch.autograd.grad(value, views)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert results[0][0] > 0
    for b, (rows, columns) in enumerate(PARTS):
        gradient = results[0][1][b]
        assert gradient[:, :rows, :columns].any()
        assert not gradient[:, rows:].any()
        assert not gradient[:, :, columns:].any()


def test_anchors_and_candidates_are_cells_of_images():
    """Compare with the oracle over pairs of cells with their centre in an image."""
    inputs = make()
    weights = oracle.scores(*inputs[2:], (h, w), score='fused', candidates='all')
    valid = np.zeros((B, h, w), bool)
    for b, (rows, columns) in enumerate(PARTS):
        valid[b, :rows, :columns] = True
    weights[~valid.ravel()] = 0
    weights[:, ~valid.ravel()] = 0
    expected = oracle.expected_loss(*inputs[:2], weights, 0.2, 200)
    found = PixelContrastLoss(**OPTIONS)(*inputs, grid())
    torch.testing.assert_close(found, expected)


def test_masks_are_read_at_uneven_centres():
    """Pool five tokens by two: the third cell is the fifth token."""
    z = torch.randn(1, D, 3, 1).double()
    masks = torch.randn(1, K, 5, 1).double() * 4
    classes = torch.randn(1, K, C1).double()
    uneven = Grid.of_map((5, 1), [(5, 1)], (5, 1), 2)
    read = torch.stack(
        [masks[0, :, :2].mean(1), masks[0, :, 2:4].mean(1), masks[0, :, 4]], dim=1
    )
    weights = oracle.scores(
        masks,
        classes,
        (3, 1),
        score='fused',
        candidates='all',
        logits=read[..., 0][None],
    )
    expected = oracle.expected_loss(z, z, weights, 0.2, 200)
    loss = PixelContrastLoss(**OPTIONS)
    torch.testing.assert_close(loss(z, z, masks, classes, uneven), expected)
    assert not torch.allclose(loss(z, z, masks, classes), expected)
