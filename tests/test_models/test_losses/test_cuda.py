"""The contrast on a GPU against itself on the CPU.

float32 products are compared at full precision, PyTorch's default. A run that allows
TF32 (``torch.set_float32_matmul_precision('high')``) has scores and similarities with
errors of about 1e-3; the tolerances here would not hold there.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from mmcast.models.losses import PixelContrastLoss, draws
from mmcast.models.losses.pairs import CANDIDATES

from .test_pixel_contrast import grads, make

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
DEVICE = 'cuda'
TOLERANCES = {torch.float64: (1e-9, 1e-12), torch.float32: (1e-4, 1e-6)}


def assert_same(found, expected, dtype):
    rtol, atol = TOLERANCES[dtype]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.type == DEVICE
        torch.testing.assert_close(ours.cpu(), theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('margin', [None, 0.5])
@pytest.mark.parametrize('candidates', CANDIDATES)
def test_expected(candidates, margin, dtype):
    inputs = make(dtype=dtype, size=(8, 12))
    loss = PixelContrastLoss(candidates=candidates, margin=margin)
    found = grads(loss, [x.to(DEVICE) for x in inputs])
    assert_same(found, grads(loss, inputs), dtype)


@pytest.mark.parametrize('margin', [None, 0.5])
@pytest.mark.parametrize('candidates', CANDIDATES)
def test_sampled_from_the_same_random_numbers(candidates, margin, monkeypatch):
    """In float64, where no rounding moves a draw to the next candidate."""
    rand = torch.rand
    monkeypatch.setattr(
        torch, 'rand', lambda *size, device, dtype: rand(*size, dtype=dtype).to(device)
    )
    inputs = make(dtype=torch.float64, size=(8, 12))
    loss = PixelContrastLoss(candidates=candidates, margin=margin, negatives='sampled')
    torch.manual_seed(0)
    found = grads(loss, [x.to(DEVICE) for x in inputs])
    torch.manual_seed(0)
    assert_same(found, grads(loss, inputs), torch.float64)


def test_without_replacement():
    """The second of two draws, by the closed form of drawing one after the other."""
    scores, rows = np.array([1.0, 2.0, 0.0, 3.0]), 40_000
    s = torch.tensor(scores, device=DEVICE).float().repeat(rows, 1)
    index = draws.draw_without_replacement(s, 2).cpu().numpy()
    assert (index[:, 0] != index[:, 1]).all()
    share = scores / scores.sum()
    left_out = [
        sum(
            share[b] * share[c] / (1 - share[b])
            for b in range(4)
            for c in range(4)
            if len({a, b, c}) == 3
        )
        for a in (0, 1, 3)
    ]
    counts = [(index != a).all(1).sum() for a in (0, 1, 3)]
    assert stats.chisquare(counts, np.array(left_out) * rows).pvalue > 1e-4


@pytest.mark.parametrize('kind', ['expected', 'sampled', 'distinct'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast(dtype, kind):
    """Half inputs under autocast give what their float32 values give without."""
    half = [x.to(DEVICE, dtype) for x in make(size=(8, 12))]
    loss = PixelContrastLoss(
        0.07,
        negatives='expected' if kind == 'expected' else 'sampled',
        replacement=kind != 'distinct',
        loss_weight=1.0,
    )
    torch.manual_seed(0)
    with torch.autocast(DEVICE, dtype):
        value, *found = grads(loss, half)
    assert value.dtype == torch.float32
    torch.manual_seed(0)
    expected, *expected_grads = grads(loss, [x.float() for x in half])
    torch.testing.assert_close(value, expected)
    for ours, theirs in zip(found, expected_grads, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), theirs, rtol=2e-2, atol=1e-4)
