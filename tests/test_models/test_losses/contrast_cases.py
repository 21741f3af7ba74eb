"""Random batches, and what the contrast's parts make of them."""

import torch

import mmcast  # noqa: F401
from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.losses import (
    Grid,
    scores,
)
from mmcast.models.losses.pairs import CANDIDATES, Pairing, Pixels
from mmcast.models.losses.scores import SCORES

B, K, C1, D, h, w = 3, 4, 3, 5, 2, 3
N = h * w
COMBINATIONS = [
    (score, candidates, unit)
    for score in SCORES
    for candidates in CANDIDATES
    for unit in (True, False)
]


def make(seed=3, b=B, dtype=torch.float32, size=(h, w)):
    """Make z_weak, z_strong, mask_logits and class_logits of a random batch."""
    g = torch.Generator().manual_seed(seed)
    shapes = (b, D, *size), (b, D, *size), (b, K, 4 * h, 4 * w), (b, K, C1)
    return [
        torch.randn(shape, generator=g).to(dtype) * factor
        for shape, factor in zip(shapes, (1, 1, 2, 2), strict=True)
    ]


def predictions(masks, classes, size=(h, w)):
    """Return p (B, N, K) and f (B, N, C + 1) at evenly spaced cells."""
    points = Grid.without_padding(1, size).points(torch.arange(size[0] * size[1]))
    at_cells = FactoredMasks(masks).at_points(
        points.expand(len(masks), -1, -1), 'border'
    )
    read = [
        scores.pixel_predictions(*each) for each in zip(at_cells, classes, strict=True)
    ]
    return tuple(torch.stack(part) for part in zip(*read, strict=True))


def pairing(masks, classes, score='fused', candidates='all', unit=True):
    p, f = predictions(masks, classes)
    same, cross = scores.score_features(p, f, score, unit)
    pixels = Pixels(
        torch.zeros(len(masks) * N, D, dtype=same.dtype),
        same.flatten(0, 1),
        cross.flatten(0, 1),
        torch.arange(len(masks) * N),
        (N,) * len(masks),
    )
    return Pairing(pixels, pixels, candidates)


def all_scores(pairs, rows=2, columns=4):
    """Compute the matrix of all scores, block by block."""
    count = len(pairs.anchors.z)
    out = torch.zeros(count, count, dtype=pairs.anchors.same.dtype)
    for image, anchors in pairs.row_blocks(rows):
        for own, others in pairs.column_blocks(image, columns):
            out[anchors, others] = pairs.scores(own, anchors, others)
    return out


def grads(loss, inputs):
    z_weak, z_strong = (z.detach().clone().requires_grad_() for z in inputs[:2])
    value = loss(z_weak, z_strong, *inputs[2:])
    return value.detach(), *torch.autograd.grad(value, (z_weak, z_strong))
