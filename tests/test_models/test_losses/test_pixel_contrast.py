"""Test the contrast against a slow oracle and closed forms."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mmcast  # noqa: F401
from mmcast.models.losses import (
    PixelContrastLoss,
    negatives,
)
from mmcast.models.losses.pairs import CANDIDATES
from mmcast.models.losses.temperature import LOWEST

from . import oracle
from .contrast_cases import (
    COMBINATIONS,
    B,
    D,
    N,
    grads,
    h,
    make,
    w,
)


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
