"""The projection, and what a preset makes of it."""

import pytest
import torch
from mmdet.registry import MODELS

from mmcast.models.dense_heads import PixelContrastHead


def build(**changes):
    loss = dict(type='PixelContrastLoss')
    return PixelContrastHead(6, loss, embed_channels=4, **changes)


def inputs():
    g = torch.Generator().manual_seed(0)
    shapes = ((2, 6, 4, 4), (2, 6, 4, 4), (2, 3, 8, 8), (2, 3, 4))
    weak, strong, masks, classes = (torch.randn(s, generator=g) for s in shapes)
    return [weak], [strong.requires_grad_()], masks, classes


def test_the_authors_strong_projection_never_learns():
    head = build(preset='author')
    before = [p.clone() for p in head.strong_mlp.parameters()]
    for own, copied in zip(head.mlp.parameters(), before, strict=True):
        assert torch.equal(own, copied)  # a copy of the initial one
    assert any(key.startswith('strong_mlp.') for key in head.state_dict())
    weak, strong, masks, classes = inputs()
    optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
    head.loss(weak, strong, masks, classes)['loss_pxl'].backward()
    optimiser.step()
    assert strong[0].grad is None
    for now, then in zip(head.strong_mlp.parameters(), before, strict=True):
        assert torch.equal(now, then)
    learnt = zip(head.mlp.parameters(), before, strict=True)
    assert not all(torch.equal(now, then) for now, then in learnt)


@pytest.mark.parametrize('preset', ['default', 'paper'])
def test_else_both_views_share_one_projection(preset):
    head = build(preset=preset)
    assert head.strong_mlp is None
    weak, strong, masks, classes = inputs()
    head.loss(weak, strong, masks, classes)['loss_pxl'].backward()
    assert strong[0].grad.any()


def test_what_the_config_gives_goes_before_the_preset():
    loss = dict(type='PixelContrastLoss', candidates='all', num_negatives=7)
    head = MODELS.build(
        dict(type='PixelContrastHead', in_channels=6, loss=loss, preset='paper')
    )
    assert head.contrast.candidates == 'all'
    assert head.contrast.num_negatives == 7
    assert head.contrast.negatives == 'sampled'
    assert build(preset='author', frozen_strong_mlp=False).strong_mlp is None


def test_an_unknown_preset_is_told():
    with pytest.raises(ValueError, match=r"preset='best' is unknown; choose one of"):
        build(preset='best')
