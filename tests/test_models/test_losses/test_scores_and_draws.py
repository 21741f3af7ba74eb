"""Test scores and draws of negatives against a slow oracle and closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats

import mmcast  # noqa: F401
from mmcast.models.losses import (
    draws,
    negatives,
)
from mmcast.models.losses.pairs import Pairing, Pixels
from mmcast.models.losses.scores import SCORES

from . import oracle
from .contrast_cases import (
    C1,
    COMBINATIONS,
    B,
    D,
    K,
    N,
    all_scores,
    h,
    pairing,
    predictions,
    w,
)

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
