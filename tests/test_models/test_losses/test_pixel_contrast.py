"""Test the contrast against a slow oracle, closed forms and difficult inputs."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

import mmcast  # noqa: F401
from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.losses import (
    PRESETS,
    Grid,
    PixelContrastLoss,
    draws,
    negatives,
    scores,
)
from mmcast.models.losses.pairs import CANDIDATES, Pairing, Pixels
from mmcast.models.losses.scores import SCORES
from mmcast.models.losses.temperature import LOWEST

from . import oracle

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


@pytest.fixture
def batch():
    return make()


@pytest.fixture
def blocks(monkeypatch):
    """Use small blocks whose borders are inside images."""
    monkeypatch.setattr(negatives, 'block_shape', lambda device: (4, 5))


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


# -- predictions and scores ----------------------------------------------------------


def test_pixel_predictions_sum_over_queries(batch):
    _, _, masks, classes = batch
    p, f = predictions(masks, classes)
    assert p.shape == (B, N, K)
    assert f.shape == (B, N, C1)
    torch.testing.assert_close(p.sum(-1), torch.ones(B, N))
    torch.testing.assert_close(f.sum(-1), torch.ones(B, N))
    # A pixel that belongs to one query has that query's class distribution.
    masks = torch.full((1, 2, h, w), -30.0)
    masks[0, 0, 0, 0] = masks[0, 1, 1, 2] = 30.0
    _, f = predictions(masks, classes[:1, :2])
    torch.testing.assert_close(f[0, 0], classes[0, 0].softmax(0))
    torch.testing.assert_close(f[0, N - 1], classes[0, 1].softmax(0))


@pytest.mark.parametrize('masks_size', [(8, 12), (2, 3), (5, 7), (1, 1)])
def test_masks_are_read_bilinearly_at_cell_centres(masks_size):
    g = torch.Generator().manual_seed(0)
    masks = torch.randn(2, K, *masks_size, generator=g)
    classes = torch.randn(2, K, C1, generator=g)
    p, f = predictions(masks, classes, (4, 5))
    expected = oracle.read(masks, (4, 5)).softmax(1).transpose(1, 2)
    torch.testing.assert_close(p, expected)
    expected = torch.einsum('bnk,bkc->bnc', expected, classes.softmax(-1))
    torch.testing.assert_close(f, expected)


@pytest.mark.parametrize(('score', 'candidates', 'unit'), COMBINATIONS)
def test_scores_equal_the_pairwise_oracle(batch, score, candidates, unit):
    _, _, masks, classes = batch
    expected = oracle.scores(
        masks,
        classes,
        (h, w),
        score=score,
        candidates=candidates,
        unit_scores=unit,
    )
    ours = all_scores(pairing(masks, classes, score, candidates, unit))
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)
    assert expected.any()


@pytest.mark.parametrize('score', SCORES)
def test_scores_do_not_depend_on_the_query_order(batch, score):
    _, _, masks, classes = (x.double() for x in batch)
    before = all_scores(pairing(masks, classes, score))
    order = torch.tensor([2, 0, 3, 1])
    masks[1], classes[1] = masks[1, order], classes[1, order]
    after = all_scores(pairing(masks, classes, score))
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-14)


def test_an_anchors_own_pixel_is_not_its_candidate():
    """Use pools in any order, with other ranks' candidates after the batch's own."""
    g = torch.Generator().manual_seed(0)
    anchors, candidates = (
        Pixels(
            torch.zeros(length, D),
            torch.rand(len(place), C1, generator=g) * 0.5,
            torch.rand(length, C1, generator=g) * 0.5,
            torch.tensor(place),
            (len(place) - 2, 2),
        )
        for place, length in (([7, 0, 3, 12, 15], 5), ([3, 7, 1, 9, 15, 11], 8))
    )
    pairs = Pairing(anchors, candidates, 'all')
    found = torch.zeros(5, 8)
    for image, rows in pairs.row_blocks(2):
        for own, columns in pairs.column_blocks(image, 3):
            found[rows, columns] = pairs.scores(own, rows, columns)
    assert (found == 0).nonzero().tolist() == [[0, 1], [2, 0], [4, 4]]


@pytest.mark.parametrize('score', ['fused', 'mask', 'class'])
def test_certain_and_equal_pixels_are_never_negatives(score):
    """Give all pixels one query and class of probability 1; use both score lengths."""
    masks = torch.full((1, 3, 1, 1), -99.0)
    masks[:, 0] = 99.0
    classes = torch.tensor([[[99.0, 0.0], [0.0, 99.0], [0.0, 99.0]]])
    for unit in (True, False):
        found = all_scores(pairing(masks.expand(1, 3, h, w), classes, score, unit=unit))
        assert not found.any()


@pytest.mark.parametrize('score', ['fused', 'mask', 'class'])
def test_scores_of_equal_predictions_are_exactly_zero(score):
    """Check that rounding does not make an instance its own negative."""
    g = torch.Generator().manual_seed(0)
    masks = torch.randn(1, 100, 1, 1, generator=g).expand(1, 100, h, w) * 5
    classes = torch.randn(1, 100, 101, generator=g)
    assert not all_scores(pairing(masks, classes, score)).any()


# -- draws -----------------------------------------------------------------------------


def chi_square(drawn, share):
    """Return the p-value of drawn indices; a share of 0 must not be drawn at all."""
    counts = np.bincount(drawn, minlength=len(share))
    assert not counts[share == 0].any()
    used = share * len(drawn) > 5
    expected = share[used] / share[used].sum() * counts[used].sum()
    return stats.chisquare(counts[used], expected).pvalue


@pytest.mark.parametrize(
    ('score', 'candidates'),
    [('fused', 'all'), ('mask', 'same_image'), ('class', 'other_images')],
)
def test_negatives_are_drawn_in_proportion_to_scores(batch, score, candidates, blocks):
    _, _, masks, classes = batch
    pairs = pairing(masks, classes, score, candidates)
    expected = oracle.scores(masks, classes, (h, w), score=score, candidates=candidates)
    seen = 0
    for rows, span, _, index in negatives.draw_negatives(pairs, 20_000, True):
        for anchor, drawn in zip(range(rows.start, rows.stop), index, strict=True):
            share = expected[anchor] / expected[anchor].sum()
            assert chi_square((drawn + span.start).numpy(), share) > 1e-4
            seen += 1
    assert seen == B * N


@pytest.mark.parametrize('found', [None, 0, 1])
def test_draws_without_replacement_match_the_closed_form(found):
    """Compare two draws with the closed form; 0 or 1 of them may be given before."""
    weights = np.array([1.0, 2.0, 3.0, 0.0, 4.0])
    total, rows = weights.sum(), 40_000
    s = torch.tensor(weights).float().repeat(rows, 1)
    if found is None:
        index = draws.draw_without_replacement(s, 2)
    else:
        before = torch.full((rows, 2), 5)
        before[:, :found] = s.multinomial(1)
        index = draws.gumbel_top_k(s, before)
    pairs = np.sort(index.numpy(), axis=1)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    share = np.zeros((5, 5))
    for a in range(5):
        for b in range(5):
            if a != b:
                chance = weights[a] / total * weights[b] / (total - weights[a])
                share[min(a, b), max(a, b)] += chance
    assert share.sum() == pytest.approx(1)
    assert chi_square(pairs[:, 0] * 5 + pairs[:, 1], share.ravel()) > 1e-4


def test_research_codes_floor_is_added_twice():
    """Expect 1e-6 * (1 + sum of scores) on top, about 2e-3 for 2,109 scores of 1."""
    one, other = torch.zeros(1, 2), torch.eye(2)[:1]
    places = [torch.arange(1), torch.arange(1, 2110)]
    anchors = Pixels(torch.zeros(1, 1), one, one, places[0], (1, 0))
    among = Pixels(
        torch.zeros(2109, 1), one[:0], other.expand(2109, 2) * 0, places[1], (0, 2109)
    )
    pairs = Pairing(anchors, among, 'other_images')
    ((_, _, found, _),) = negatives.draw_negatives(pairs, 5, False, floor=1e-6)
    expected = 1 + 1e-6 * (1 + 2109 * (1 + 1e-6))
    torch.testing.assert_close(found, torch.full((1, 2109), expected))
    # One equal candidate among 2,108 different ones: its score is the floor alone.
    alike = Pixels(
        torch.zeros(2109, 1),
        one[:0],
        torch.cat([other, torch.zeros(2108, 2)]),
        places[1],
        (0, 2109),
    )
    anchors = Pixels(torch.zeros(1, 1), one, other, places[0], (1, 0))
    pairs = Pairing(anchors, alike, 'other_images')
    ((_, _, found, _),) = negatives.draw_negatives(pairs, 5, False, floor=1e-6)
    assert found[0, 0].item() == pytest.approx(1e-6 * (1 + 2108), rel=1e-3)


def test_drawing_more_than_all_candidates():
    index = draws.draw_without_replacement(torch.tensor([[0.0, 0.3, 0.0, 0.1]]), 3)
    assert sorted(index[0].tolist()) == [1, 3, 4]


def test_candidates_of_score_zero_are_never_drawn():
    """Use extreme u, for which rounding could reach a candidate of score 0."""
    weights = torch.tensor([[0.0, 0.3, 0.0, 0.1, 0.0], [0.0] * 5])
    u = torch.tensor([0.0, 1 - 2**-24, 0.75, 0.7499]).repeat(2, 1)
    index = draws.draw_with_replacement(weights, u)
    assert set(index[0].tolist()) <= {1, 3}
    assert index[0, :2].tolist() == [1, 3]
    assert index[1].tolist() == [5] * 4
    totals = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) + 1
    weights = torch.stack([totals, torch.zeros_like(totals)], dim=1)
    u = torch.full((100_000, 1), 1 - 2**-24)
    assert not draws.draw_with_replacement(weights, u).any()


def test_pools_are_drawn_uniformly_without_repeats():
    torch.manual_seed(0)
    cpu = torch.device('cpu')
    parts = ((3, 4), (2, 2))  # images in maps of 3x5 cells
    seen = ([], [])
    for _ in range(3000):
        pools = draws.draw_pixels(parts, 5, 8, cpu)
        assert [len(pool) for pool in pools] == [6, 2]  # 8 of 16, in proportion
        for pool, place in zip(pools, seen, strict=True):
            assert len(set(pool.tolist())) == len(pool)
            place.append(pool)
    for (rows, columns), place in zip(parts, seen, strict=True):
        counts = np.bincount(torch.cat(place).numpy(), minlength=15).reshape(3, 5)
        assert counts.sum() == counts[:rows, :columns].sum()
        assert stats.chisquare(counts[:rows, :columns].ravel()).pvalue > 1e-4
    for most in (None, 16):
        whole, part = draws.draw_pixels(parts, 5, most, cpu)
        assert whole.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]
        assert part.tolist() == [0, 1, 5, 6]


# -- the loss --------------------------------------------------------------------------


def grads(loss, inputs):
    z_weak, z_strong = (z.detach().clone().requires_grad_() for z in inputs[:2])
    value = loss(z_weak, z_strong, *inputs[2:])
    return value.detach(), *torch.autograd.grad(value, (z_weak, z_strong))


@pytest.mark.parametrize('margin', [None, 0.5])
@pytest.mark.parametrize(('score', 'candidates', 'unit'), COMBINATIONS)
def test_expected_equals_the_oracle(score, candidates, unit, margin, blocks):
    inputs = make(dtype=torch.float64)
    loss = PixelContrastLoss(
        0.3,
        11,
        score=score,
        candidates=candidates,
        unit_scores=unit,
        margin=margin,
        loss_weight=0.5,
    )
    weights = oracle.scores(
        *inputs[2:],
        (h, w),
        score=score,
        candidates=candidates,
        unit_scores=unit,
    )

    def slow(z_weak, z_strong, *_):
        return 0.5 * oracle.expected_loss(z_weak, z_strong, weights, 0.3, 11, margin)

    for ours, expected in zip(grads(loss, inputs), grads(slow, inputs), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.fixture
def record(monkeypatch):
    """Record the draws that SampledNegatives returns, per anchor."""
    drawn = []
    apply = negatives.SampledNegatives.apply

    def recorded(*args):
        found = apply(*args)
        drawn.append([row[row < len(args[1])].tolist() for row in found[2]])
        return found

    monkeypatch.setattr(negatives.SampledNegatives, 'apply', recorded)
    return drawn


@pytest.mark.parametrize('replacement', [True, False])
@pytest.mark.parametrize('margin', [None, 0.5])
@pytest.mark.parametrize(('score', 'candidates', 'unit'), COMBINATIONS)
def test_sampled_equals_the_oracle(
    score, candidates, unit, margin, replacement, blocks, record
):
    floor = 0.0 if unit else 1e-3
    inputs = make(dtype=torch.float64)
    loss = PixelContrastLoss(
        0.3,
        7,
        negatives='sampled',
        replacement=replacement,
        score=score,
        candidates=candidates,
        unit_scores=unit,
        score_floor=floor,
        margin=margin,
        loss_weight=1.0,
    )
    found = grads(loss, inputs)
    (index,) = record
    allowed = oracle.scores(
        *inputs[2:],
        (h, w),
        score=score,
        candidates=candidates,
        unit_scores=unit,
        floor=floor,
    )
    for anchor, drawn in enumerate(index):
        assert (allowed[anchor, drawn] > 0).all()
        if replacement:
            assert len(drawn) == 7
        else:
            assert len(set(drawn)) == len(drawn) == min(7, (allowed[anchor] > 0).sum())

    def slow(z_weak, z_strong, *_):
        return oracle.loss_of_draws(z_weak, z_strong, index, 0.3, margin)

    for ours, expected in zip(found, grads(slow, inputs), strict=True):
        torch.testing.assert_close(ours, expected)


def test_sampled_approaches_expected_with_many_draws():
    """Use many draws, because the expectation is that of the denominator's sum."""
    inputs = make()
    expected = PixelContrastLoss(0.3, 50_000, negatives='expected')(*inputs)
    torch.manual_seed(0)
    sampled = PixelContrastLoss(0.3, 50_000, negatives='sampled')(*inputs)
    torch.testing.assert_close(sampled, expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize('margin', [None, 0.5])
@pytest.mark.parametrize('candidates', CANDIDATES)
@pytest.mark.parametrize('kind', ['expected', 'sampled', 'distinct'])
def test_gradcheck(kind, candidates, margin, blocks):
    inputs = make(b=2, dtype=torch.float64)
    loss = PixelContrastLoss(
        0.3,
        5,
        negatives='expected' if kind == 'expected' else 'sampled',
        replacement=kind != 'distinct',
        candidates=candidates,
        margin=margin,
    )

    def seeded(z_weak, z_strong):
        torch.manual_seed(1)
        return loss(z_weak, z_strong, *inputs[2:])

    views = tuple(z.requires_grad_() for z in inputs[:2])
    assert torch.autograd.gradcheck(seeded, views)


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_closed_forms(batch, kind):
    """Expect ln(1 + R) for equal embeddings, and the floor for orthonormal ones."""
    _, _, masks, classes = batch
    options = dict(num_negatives=50, negatives=kind, loss_weight=1.0)
    same = torch.ones(B, D, h, w)
    eye = torch.eye(B * N).view(B, N, B * N).transpose(1, 2).reshape(B, B * N, h, w)
    for temperature in (0.07, 0.2, 1.0):
        loss = PixelContrastLoss(temperature, **options)
        assert loss(same, same, masks, classes).item() == pytest.approx(math.log(51))
        floor = oracle.floor_of_loss(50, temperature)
        found = loss(eye, eye, masks, classes).item()
        assert found == pytest.approx(floor, rel=1e-5)


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_negatives_below_the_margin_have_no_gradient(kind):
    """Use orthogonal negatives in float32, where rounding is coarse."""
    eye = torch.eye(4).view(2, 2, 4).transpose(1, 2).reshape(2, 4, 1, 2)
    masks, classes = torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 2)
    for temperature in (0.3, 0.07, 0.03, 0.0295, 0.0265):
        loss = PixelContrastLoss(
            temperature, 9, score='uniform', margin=0.5, negatives=kind
        )
        weak = eye.clone().requires_grad_()
        loss(weak, eye, masks, classes).backward()
        # The positive gives no gradient across its own direction.
        across = weak.grad * (1 - eye)
        assert not across.any()


def test_loss_has_the_published_floors():
    """Expect ln(1 + R e^(-1/T)) for equal views and negatives below the margin."""
    eye = torch.eye(4).view(2, 2, 4).transpose(1, 2).reshape(2, 4, 1, 2)
    masks, classes = torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 2)
    for temperature, value in ((0.3, 2.10), (0.2, 0.85), (0.07, 1.2e-4)):
        loss = PixelContrastLoss(
            temperature, 200, score='uniform', margin=0.5, loss_weight=1.0
        )
        found = loss(eye, eye, masks, classes).item()
        assert found == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
@pytest.mark.parametrize('candidates', CANDIDATES)
def test_block_shape_does_not_change_the_loss(batch, candidates, kind, monkeypatch):
    results = []
    for shape in ((1, 1), (4, 5), (1024, 1024)):
        monkeypatch.setattr(negatives, 'block_shape', lambda device, shape=shape: shape)
        torch.manual_seed(5)
        loss = PixelContrastLoss(candidates=candidates, negatives=kind)
        results.append(grads(loss, batch))
    assert all(part.any() for part in results[0])
    for other in results[1:]:
        for part, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_bounded_pools_estimate_the_full_loss(kind):
    """Compare the mean over many pools with the loss over all pixels."""
    inputs = make(size=(8, 12))
    whole = PixelContrastLoss(0.5, 20, negatives=kind, max_candidates=None)(*inputs)
    pooled = PixelContrastLoss(
        0.5, 20, negatives=kind, max_anchors=60, max_candidates=120
    )
    torch.manual_seed(0)
    found = torch.stack([pooled(*inputs) for _ in range(200)])
    assert found.std() > 0
    assert found.mean().item() == pytest.approx(whole.item(), rel=0.01)


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_all_pairs_are_never_in_memory_at_once(kind, monkeypatch):
    """Check that no tensor, saved or temporary, has anchors x candidates elements."""
    monkeypatch.setattr(negatives, 'block_shape', lambda device: (8, 32))
    inputs = make(size=(16, 24))
    anchors = B * 16 * 24
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple | list) else [out]:
                if isinstance(t, torch.Tensor):
                    largest = max(largest, t.numel())
            return out

    loss = PixelContrastLoss(num_negatives=7, negatives=kind, max_candidates=None)
    with Largest():
        loss(inputs[0].requires_grad_(), *inputs[1:]).backward()
    assert largest < anchors * anchors / 50


def test_seed_determines_the_loss(batch):
    for options in (dict(negatives='sampled'), dict(max_candidates=9)):
        loss = PixelContrastLoss(**options)
        torch.manual_seed(0)
        first, second = loss(*batch), loss(*batch)
        torch.manual_seed(0)
        assert torch.equal(loss(*batch), first)
        assert not torch.equal(second, first)
    assert torch.equal(PixelContrastLoss()(*batch), PixelContrastLoss()(*batch))


def test_no_gradient_into_predictions(batch):
    for x in batch:
        x.requires_grad_()
    z_weak, z_strong, masks, classes = batch
    PixelContrastLoss()(*batch).backward()
    assert masks.grad is None
    assert classes.grad is None
    assert z_weak.grad.any()
    assert z_strong.grad.any()


@pytest.mark.parametrize('temperature', [0.07, LOWEST])
@pytest.mark.parametrize('kind', ['expected', 'sampled'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(batch, dtype, kind, temperature):
    half = [x.to(dtype) for x in batch]
    half[0].requires_grad_()
    loss = PixelContrastLoss(temperature, negatives=kind, loss_weight=1.0)
    torch.manual_seed(0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        ours = loss(*half)
    ours.backward()
    assert ours.dtype == torch.float32
    assert half[0].grad.isfinite().all()
    torch.manual_seed(0)
    expected = loss(*(x.detach().float() for x in half))
    torch.testing.assert_close(ours, expected)


def test_loss_is_finite_at_the_lowest_temperature():
    z = torch.ones(2, D, 1, 2)
    z[1] *= -1
    masks, classes = torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 2)
    for kind in ('expected', 'sampled'):
        loss = PixelContrastLoss(
            0.025,
            10,
            negatives=kind,
            score='uniform',
            candidates='other_images',
            loss_weight=1.0,
        )
        worst = loss(z, -z, masks, classes)  # negatives are as close as the positive
        assert worst.item() == pytest.approx(math.log(11), rel=1e-5)
        assert loss(z, z, masks, classes).item() == pytest.approx(0, abs=1e-6)


def test_compiled_loss_is_the_same(batch):
    for kind in ('expected', 'sampled'):
        loss = PixelContrastLoss(negatives=kind)
        torch.manual_seed(0)
        plain = grads(loss, batch)
        torch.manual_seed(0)
        compiled = grads(torch.compile(loss, backend='aot_eager'), batch)
        for part, expected in zip(compiled, plain, strict=True):
            torch.testing.assert_close(part, expected)


# -- difficult inputs ------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_one_image_has_a_loss(batch, kind):
    one = [x[:1] for x in batch]
    for candidates in ('all', 'same_image'):
        assert PixelContrastLoss(candidates=candidates, negatives=kind)(*one) > 0


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_one_query_has_negatives_in_other_images_only(batch, kind):
    """Use K = 1, so that all pixels of an image have the same prediction."""
    z_weak, z_strong, masks, classes = batch
    one = (z_weak, z_strong, masks[:, :1], classes[:, :1])
    assert PixelContrastLoss(candidates='same_image', negatives=kind)(*one) == 0
    assert PixelContrastLoss(candidates='all', negatives=kind)(*one) > 0


@pytest.mark.parametrize('kind', ['expected', 'sampled', 'distinct'])
@pytest.mark.parametrize('case', ['equal', 'one_pixel'])
def test_loss_without_negatives_is_zero_with_a_graph(batch, case, kind):
    z_weak, z_strong, masks, classes = (x[:1] for x in batch)
    if case == 'equal':
        masks = torch.zeros_like(masks)
    else:
        z_weak, z_strong = z_weak[..., :1, :1], z_strong[..., :1, :1]
    z_weak, z_strong = z_weak.clone().requires_grad_(), z_strong.requires_grad_()
    loss = PixelContrastLoss(
        negatives='expected' if kind == 'expected' else 'sampled',
        replacement=kind != 'distinct',
    )(z_weak, z_strong, masks, classes)
    assert loss.item() == 0
    loss.backward()
    for z in (z_weak, z_strong):
        assert z.grad.shape == z.shape
        assert not z.grad.any()


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_anchors_without_negatives_are_left_out_of_the_mean(batch, kind):
    """Make all pixels of image 1 equal, so that only the anchors of image 0 count."""
    batch[2][1] = 0
    loss = PixelContrastLoss(candidates='same_image', negatives=kind)
    torch.manual_seed(1)
    both = loss(*(x[:2] for x in batch))
    torch.manual_seed(1)
    first = loss(*(x[:1] for x in batch))
    torch.testing.assert_close(both, first)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('which', range(4))
@pytest.mark.parametrize('candidates', CANDIDATES)
@pytest.mark.parametrize('kind', ['expected', 'sampled', 'distinct'])
def test_non_finite_inputs_make_the_loss_nan(batch, value, which, candidates, kind):
    batch[which].view(-1)[5] = value
    z_weak = batch[0].requires_grad_()
    loss = PixelContrastLoss(
        candidates=candidates,
        negatives='expected' if kind == 'expected' else 'sampled',
        replacement=kind != 'distinct',
    )(*batch)
    assert loss.isnan()
    loss.backward()
    assert z_weak.grad.isnan().any()


def test_optimising_separates_the_instances():
    """Give two queries half of the pixels each; their embeddings must separate."""
    torch.manual_seed(0)
    masks = torch.full((1, 2, 4, 4), -9.0)
    masks[0, 0, :, :2] = masks[0, 1, :, 2:] = 9.0
    classes = torch.tensor([[[5.0, 0.0], [5.0, 0.0]]])
    for kind in ('expected', 'sampled'):
        z = torch.randn(1, 8, 4, 4).requires_grad_()
        optimiser = torch.optim.SGD([z], lr=20.0)
        loss = PixelContrastLoss(num_negatives=32, negatives=kind, loss_weight=1.0)
        for _ in range(60):
            optimiser.zero_grad()
            loss(z, z.detach(), masks, classes).backward()
            optimiser.step()
        unit_z = F.normalize(z.detach()[0], dim=0)
        left, right = unit_z[:, :, :2].flatten(1), unit_z[:, :, 2:].flatten(1)
        assert (left.T @ right).mean() < -0.6
        assert (left.T @ left).mean() > 0.6
        assert (right.T @ right).mean() > 0.6


# -- state -----------------------------------------------------------------------------


def test_schedule_counts_training_steps_and_is_resumed(batch):
    schedule = dict(start=0.3, end=0.1, iters=4)
    loss = PixelContrastLoss(schedule)
    seen = []
    for _ in range(6):
        seen.append(loss.temperature.value)
        loss(*batch)
    assert seen == pytest.approx([0.3, 0.25, 0.2, 0.15, 0.1, 0.1])
    loss.eval()(*batch)
    assert loss.temperature.step == 6
    again = PixelContrastLoss(schedule)
    again(*batch)
    again.load_state_dict({'temperature.step': torch.tensor(2)})
    assert again.temperature.value == pytest.approx(0.2)
    again(*batch)
    assert again.temperature.value == pytest.approx(0.15)
    assert not PixelContrastLoss(0.3).state_dict()


# -- construction ----------------------------------------------------------------------


def test_presets_are_built_and_differ(batch):
    torch.manual_seed(0)
    for name, preset in PRESETS.items():
        loss = MODELS.build(dict(type='PixelContrastLoss', **preset))
        assert loss(*batch).isfinite()
        research = name == 'research_code'
        assert (loss.margin == 0.5) is research
        assert loss.unit_scores is not research
        assert loss.replacement is not research
    research = PixelContrastLoss(**PRESETS['research_code'])
    assert (research.score, research.candidates) == ('class', 'other_images')
    assert research.temperature.value == pytest.approx(0.3)
    research.load_state_dict({'temperature.step': torch.tensor(90_000)})
    assert research.temperature.value == pytest.approx(0.07)
    paper = PixelContrastLoss(**PRESETS['paper'])
    assert (paper.score, paper.candidates, paper.negatives) == (
        'fused',
        'same_image',
        'sampled',
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'temperature': 0}, 'temperature=0 must be at least 0.025; 0.07 to 0.4'),
        ({'temperature': math.nan}, 'must be at least'),
        ({'temperature': dict(start=0.3, end=0.0, iters=5)}, 'temperature=0.0 must'),
        ({'temperature': dict(start=0.3)}, r'dict\(start=..., end=..., iters=...\)'),
        ({'temperature': dict(start=0.3, end=0.1, iters=0)}, 'temperature.iters=0'),
        ({'num_negatives': 0}, 'num_negatives=0 must be an integer of at least 1.'),
        ({'max_candidates': 2.5}, 'max_candidates=2.5 must be an integer'),
        ({'score': 'both'}, r"score='both' is unknown; choose one of \('fused'"),
        ({'candidates': 'some'}, r"candidates='some' is unknown; choose one of"),
        ({'negatives': 'hard'}, r"negatives='hard' is unknown; choose one of"),
        ({'score_floor': 1e-6}, "score_floor=1e-06 needs negatives='sampled'"),
        ({'margin': -1}, 'margin=-1 must not be negative'),
        ({'loss_weight': -1}, 'loss_weight=-1 must not be negative'),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelContrastLoss(**arguments)


def test_shapes_are_checked(batch):
    z_weak, z_strong, masks, classes = batch
    loss = PixelContrastLoss()
    with pytest.raises(ValueError, match='photometric only'):
        loss(z_weak, z_strong[..., :2], masks, classes)
    with pytest.raises(ValueError, match='non-empty'):
        loss(z_weak[:0], z_strong[:0], masks[:0], classes[:0])
    with pytest.raises(ValueError, match="one decoder layer's predictions"):
        loss(z_weak, z_strong, masks, classes[:, 1:])
    with pytest.raises(ValueError, match='of the same batch'):
        loss(z_weak, z_strong, masks[:2], classes[:2])
    loss = PixelContrastLoss(candidates='other_images')
    with pytest.raises(ValueError, match='at least 2 images per device'):
        loss(*(x[:1] for x in batch))
