"""Test the contrast head: its views, its projections and its presets."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import nn

from mmcast.models.dense_heads import PixelContrastHead

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build(**changes):
    arguments = dict(loss=dict(type='PixelContrastLoss'), embed_channels=4)
    return PixelContrastHead(6, MEAN, STD, **{**arguments, **changes})


def samples(*sizes):
    return [DetDataSample(metainfo=dict(img_shape=size)) for size in sizes]


class Encoder(nn.Module):
    """An encoder that returns fixed maps and records its input."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, images):
        self.images = images
        return [self.maps.clone().requires_grad_()]


def inputs(size=(16, 16)):
    g = torch.Generator().manual_seed(0)
    cells = [side // 4 for side in size]
    shapes = ((2, 3, *size), (2, 6, *cells), (2, 6, *cells), (2, 3, 8, 8), (2, 3, 4))
    images, weak, strong, masks, classes = (torch.randn(s, generator=g) for s in shapes)
    return images, samples(size, size), Encoder(strong), [weak], masks, classes


def test_research_code_never_trains_the_strong_projection():
    head = build(preset='research_code')
    before = [p.clone() for p in head.strong_mlp.parameters()]
    for own, copied in zip(head.mlp.parameters(), before, strict=True):
        assert torch.equal(own, copied)  # it starts as a copy
    assert any(key.startswith('strong_mlp.') for key in head.state_dict())
    optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
    head.loss(*inputs())['loss_pxl'].backward()
    optimiser.step()
    for now, then in zip(head.strong_mlp.parameters(), before, strict=True):
        assert torch.equal(now, then)
    learnt = zip(head.mlp.parameters(), before, strict=True)
    assert not all(torch.equal(now, then) for now, then in learnt)


@pytest.mark.parametrize('preset', ['default', 'paper', 'research_code'])
def test_only_research_code_has_a_strong_projection(preset):
    head = build(preset=preset)
    assert (head.strong_mlp is None) is (preset != 'research_code')
    strong = head([torch.randn(2, 6, 4, 4).requires_grad_()], strong=True)
    assert strong.requires_grad is (preset != 'research_code')


def test_config_overrides_the_preset():
    loss = dict(type='PixelContrastLoss', candidates='all', num_negatives=7)
    head = build(loss=loss, preset='paper')
    assert head.contrast.candidates == 'all'
    assert head.contrast.num_negatives == 7
    assert head.contrast.negatives == 'sampled'


def test_head_makes_the_strong_view():
    view = dict(type='StrongView', brightness=(1.5, 1.5), contrast=0, saturation=0)
    head = build(strong_view=dict(view, hue=0, grayscale_prob=0, blur_prob=0))
    arguments = inputs()
    head.loss(*arguments)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    images, strong = (x * std + mean for x in (arguments[0], arguments[2].images))
    expected = (images.clamp(0, 255) * 1.5).clamp(max=255)
    torch.testing.assert_close(strong, expected, rtol=0, atol=1e-3)


def test_padding_does_not_change_the_loss():
    """Change the padding of two images of 16x12 and 8x16 pixels."""
    head = build()
    images, _, encoder, (weak,), masks, classes = inputs()
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        loss = head.loss(
            images, samples((16, 12), (8, 16)), encoder, [weak], masks, classes
        )
        found.append(loss['loss_pxl'])
        for x, fine in ((images, 4), (encoder.maps, 1), (weak, 1), (masks, 2)):
            x[0, ..., 3 * fine :] += 5
            x[1, ..., 2 * fine :, :] -= 5
    torch.testing.assert_close(found[1], found[0])
    head.loss(images, samples((16, 12), (16, 16)), encoder, [weak], masks, classes)
    strong = encoder.images
    assert torch.equal(strong[0, ..., 12:], images[0, ..., 12:])
    assert not torch.isclose(strong[0, ..., :12], images[0, ..., :12]).all()


def test_unknown_preset_raises():
    with pytest.raises(ValueError, match=r"preset='best' is unknown; choose one of"):
        build(preset='best')


def test_head_is_registered():
    config = dict(type='PixelContrastHead', in_channels=6, mean=MEAN, std=STD)
    config['loss'] = dict(type='PixelContrastLoss')
    assert isinstance(MODELS.build(config), PixelContrastHead)
