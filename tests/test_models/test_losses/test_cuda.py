"""Compare the contrast on a GPU with that on the CPU.

float32 products have full precision here, PyTorch's default. With TF32
(``torch.set_float32_matmul_precision('high')``) scores and similarities have errors of
about 1e-3, more than the tolerances here.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from mmcast.models.losses import PixelContrastLoss, draws
from mmcast.models.losses.pairs import CANDIDATES

from .contrast_cases import grads, make

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
def test_expected_equals_the_cpu(candidates, margin, dtype):
    inputs = make(dtype=dtype, size=(8, 12))
    loss = PixelContrastLoss(candidates=candidates, margin=margin)
    found = grads(loss, [x.to(DEVICE) for x in inputs])
    assert_same(found, grads(loss, inputs), dtype)


@pytest.mark.parametrize('margin', [None, 0.5])
@pytest.mark.parametrize('candidates', CANDIDATES)
def test_sampled_equals_the_cpu(candidates, margin, monkeypatch):
    """Use float64, so that rounding does not move a draw to the next candidate."""
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


def test_two_draws_without_replacement():
    """Compare which of three candidates is not drawn with the closed form."""
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
    """Compare half inputs under autocast with their float32 values without it."""
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
