"""Compare two gloo ranks under DDP with one process on the joined batch."""

import pytest
import torch
from gloo_ranks import two_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmcast.models.losses import PixelContrastLoss
from mmcast.models.losses.ranks import gather_rows, sum_over_ranks

from . import oracle

B, D, h, w = 4, 5, 3, 4


class Model(nn.Module):
    """A trainable projection, and the loss on it."""

    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Conv2d(D, D, 1)
        self.loss = loss

    def forward(self, weak, strong, masks, classes):
        return self.loss(self.project(weak), self.project(strong), masks, classes)


def make():
    g = torch.Generator().manual_seed(1)
    return [
        torch.randn(shape, generator=g)
        for shape in ((B, D, h, w), (B, D, h, w), (B, 3, h, w), (B, 3, 4))
    ]


def gradient(model, inputs):
    value = model(*inputs)
    value.backward()
    return value.detach(), [p.grad for p in model.parameters()]


@pytest.mark.parametrize('share', [2, 1])
@pytest.mark.parametrize('candidates', ['all', 'other_images'])
def test_two_ranks_equal_one_process(candidates, share, tmp_path):
    """Compare also ranks with different numbers of images, and so of pixels."""
    options = dict(
        candidates=candidates, max_candidates=None, all_ranks=True, loss_weight=1.0
    )
    inputs = make()
    if share == 1:
        # An anchor has the same weight on all ranks, so unequal ranks equal one batch.
        inputs = [x[:3] for x in inputs]
    expected, expected_grads = gradient(Model(PixelContrastLoss(**options)), inputs)
    assert all(g.any() for g in expected_grads[:1])

    def work(rank):
        parts = [x[:share] if rank == 0 else x[share:] for x in inputs]
        model = DistributedDataParallel(Model(PixelContrastLoss(**options)))
        value, grads = gradient(model, parts)
        total, ranks = sum_over_ranks(value)
        torch.testing.assert_close(total / ranks, expected)
        for ours, whole in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(ours, whole)

    assert two_ranks(work, tmp_path) == [0, 0]


def test_detached_candidates_of_other_ranks_are_constants(tmp_path):
    """Expect the mean over both ranks, each with the other's embeddings detached."""
    options = dict(max_candidates=None, loss_weight=1.0)
    inputs = make()
    _, _, masks, classes = inputs
    reference = Model(PixelContrastLoss(**options))
    weak, strong = (reference.project(x) for x in inputs[:2])
    weights = oracle.scores(masks, classes, (h, w), score='fused', candidates='all')
    halves = torch.arange(B) < 2
    losses = []
    for own_B in (halves, ~halves):
        seen = torch.where(own_B[:, None, None, None], weak, weak.detach())
        rows = weights * own_B.repeat_interleave(h * w)[:, None].numpy()
        losses.append(oracle.expected_loss(seen, strong, rows, 0.2, 200))
    expected = torch.stack(losses).mean().float()
    expected.backward()
    joined, joined_grads = gradient(Model(PixelContrastLoss(**options)), inputs)
    torch.testing.assert_close(expected.detach(), joined)
    expected_grads = [p.grad for p in reference.parameters()]
    assert not torch.allclose(expected_grads[0], joined_grads[0], rtol=1e-3)

    def work(rank):
        parts = [x[2 * rank : 2 * rank + 2] for x in inputs]
        loss = PixelContrastLoss(all_ranks='detached', **options)
        model = DistributedDataParallel(Model(loss))
        value, grads = gradient(model, parts)
        total, ranks = sum_over_ranks(value)
        torch.testing.assert_close(total / ranks, expected.detach())
        for ours, whole in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(ours, whole)

    assert two_ranks(work, tmp_path) == [0, 0]


def test_without_a_process_group_there_is_one_rank():
    assert gather_rows(torch.ones(2, 3), torch.ones(2, 1)) == []
    total, ranks = sum_over_ranks(torch.tensor(5))
    assert (total.item(), ranks) == (5, 1)
