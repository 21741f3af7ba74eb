"""Test the DPT and FPN pixel decoders: shapes, formulas and published sizes."""

import pytest
import torch
import torch.nn.functional as F
from depth_scenes import batch, optimizers, tiny_model
from mmdet.registry import MODELS
from mmengine import Config

from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.pixel_decoders import DPTPixelDecoder, FPNPixelDecoder
from mmcast.models.pixel_decoders.dpt import FusionBlock

BASE = 'configs/mmcast/_base_/models'


def plain(channels=6, height=5, width=7):
    return [torch.randn(2, channels, height, width) for _ in range(4)]


def test_dpt_on_plain_transformer_has_published_strides():
    decoder = DPTPixelDecoder([6] * 4, 8, 8, reassemble_channels=[2, 3, 4, 5])
    masks, levels = decoder(plain())
    assert masks.shape == (2, 8, 20, 28)
    assert decoder.mask_scale == 2  # so masks have stride s / 8
    assert [tuple(x.shape[1:]) for x in levels] == [(8, 5, 7), (8, 10, 14), (8, 20, 28)]


def test_dpt_on_pyramid_without_the_last_upsampling():
    decoder = DPTPixelDecoder([2, 3, 4, 5], 8, 8, upsample_last=False)
    pyramid = [
        torch.randn(1, c, 64 // s, 96 // s)
        for c, s in zip((2, 3, 4, 5), (4, 8, 16, 32), strict=True)
    ]
    masks, levels = decoder(pyramid)
    assert masks.shape == (1, 8, 16, 24)
    assert decoder.mask_scale == 1
    assert [tuple(x.shape[2:]) for x in levels] == [(4, 6), (8, 12), (16, 24)]


def test_dpt_adds_a_linear_map_of_the_coordinates_to_each_map():
    decoder = DPTPixelDecoder([2, 3], 8, 8, coordinates=True).eval()
    seen = []
    for fusion in reversed(decoder.fusions):
        fusion.register_forward_pre_hook(lambda _, given: seen.append(given))
    pyramid = [torch.randn(2, 2, 4, 6), torch.randn(2, 3, 2, 3)]
    decoder(pyramid)
    (coarse, none, _), (_, fine, _) = seen
    assert none is None
    for i, (found, (height, width)) in enumerate(((fine, (4, 6)), (coarse, (2, 3)))):
        weights = decoder.places[i].weight[:, :, 0, 0]
        expected = decoder.laterals[i](pyramid[i])
        for row in range(height):
            for column in range(width):
                x, y = 2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1
                expected[:, :, row, column] += weights @ torch.tensor([x, y])
        torch.testing.assert_close(found, expected)


def test_dpt_equals_a_functional_reference():
    """Write out the published order with functional calls, batch norm in eval mode."""
    torch.manual_seed(0)
    decoder = DPTPixelDecoder([2, 3, 4, 5], 8, 8).eval()
    for module in decoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)
    pyramid = [
        torch.randn(1, c, 32 // s, 48 // s)
        for c, s in zip((2, 3, 4, 5), (1, 2, 4, 8), strict=True)
    ]

    def conv(x, layer, padding=0):
        return F.conv2d(x, layer.weight, layer.bias, padding=padding)

    def norm(x, layer):
        mean, scale = (
            layer.running_mean,
            layer.weight / (layer.running_var + 1e-5).sqrt(),
        )
        return (x - mean[:, None, None]) * scale[:, None, None] + layer.bias[
            :, None, None
        ]

    def unit(x, module):
        _, conv1, bn1, _, conv2, bn2 = module.block
        y = norm(conv(x.clamp(min=0), conv1, 1), bn1)
        return x + norm(conv(y.clamp(min=0), conv2, 1), bn2)

    skips = [
        conv(conv(x, lateral[0], 1), lateral[1])
        for x, lateral in zip(pyramid, decoder.laterals, strict=True)
    ]
    expected, path = [], skips[3]
    for i, size in zip(
        (3, 2, 1, 0), ((8, 12), (16, 24), (32, 48), (64, 96)), strict=True
    ):
        block = decoder.fusions[i]
        if i < 3:
            path = path + unit(skips[i], block.skip_unit)
        path = unit(path, block.unit)
        path = F.interpolate(path, size, mode='bilinear', align_corners=True)
        path = conv(path, block.project)
        expected.append(path)
    masks, levels = decoder(pyramid)
    masks = FactoredMasks(masks, scale=decoder.mask_scale).dense()
    for ours, theirs in zip([*levels, masks], expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_all_parameters_affect_the_output():
    for decoder in (
        DPTPixelDecoder([6] * 4, 8, 8, reassemble_channels=[2, 3, 4, 5]),
        FPNPixelDecoder([6] * 4, 8, 8, reassemble_channels=[2, 3, 4, 5]),
    ):
        masks, levels = decoder(plain())
        sum(x.square().sum() for x in [masks, *levels]).backward()
        idle = [n for n, p in decoder.named_parameters() if not p.grad.any()]
        # Batch norm removes the mean, so a bias right before it has no effect.
        assert all(n.endswith(('block.1.bias', 'block.4.bias')) for n in idle), idle


def test_fpn_returns_masks_and_three_levels():
    masks, levels = FPNPixelDecoder([6] * 4, 8, 10, reassemble_channels=[2, 3, 4, 5])(
        plain()
    )
    assert masks.shape == (2, 10, 20, 28)
    assert [tuple(x.shape[1:]) for x in levels] == [(8, 3, 4), (8, 5, 7), (8, 10, 14)]


def test_unequal_widths_raise():
    with pytest.raises(ValueError, match='out_channels=16 must equal'):
        DPTPixelDecoder([2, 3, 4, 5], 8, 16)


def test_dpt384_has_the_research_codes_used_parameters():
    model = MODELS.build(Config.fromfile(f'{BASE}/student_dpt384.py').model)
    parts = {
        part: sum(p.numel() for p in module.parameters())
        for part, module in dict(
            encoder=model.backbone,
            reassemble=model.panoptic_head.pixel_decoder.reassemble,
            dpt=model.panoptic_head.pixel_decoder,
            head=model.panoptic_head,
        ).items()
    }
    unused_unit = FusionBlock(384, with_skip=True).skip_unit
    left_out = {
        'backbone.mask_token': 384,
        **{
            f'refinenet4.resConfUnit1.{name}': parameter.numel()
            for name, parameter in unused_unit.named_parameters()
        },
    }
    assert len(left_out) == 1 + 8
    assert parts['encoder'] + 384 == 22_056_576
    assert parts['reassemble'] == 554_400 + 5_604_384
    unit = sum(left_out.values()) - 384
    assert parts['dpt'] - parts['reassemble'] + unit == 27_411_456
    assert parts['head'] - parts['dpt'] == 25_368_585
    assert parts['encoder'] + parts['head'] + sum(left_out.values()) == 80_995_401


def test_dpt256_has_about_56_million_parameters():
    model = MODELS.build(Config.fromfile(f'{BASE}/student_dpt256.py').model)
    count = sum(p.numel() for p in model.parameters())
    contrast = sum(p.numel() for p in model.pixel_contrast.parameters())
    unused = sum(p.numel() for p in FusionBlock(256, True).skip_unit.parameters())
    assert count - contrast + unused + 384 == 55_969_865


def test_mask_features_are_the_pixel_decoders():
    config = dict(
        type='DPTPixelDecoder',
        in_channels=[4, 8, 16, 32],
        feat_channels=8,
        out_channels=8,
    )
    decoder = MODELS.build(dict(type='MaskFeatures', pixel_decoder=config)).eval()
    maps = [torch.rand(2, 4 * 2**i, 32 // 2**i, 64 // 2**i) for i in range(4)]
    assert torch.equal(decoder(maps), decoder.pixel_decoder(maps)[0])


def test_a_students_features_learn_depth_and_labels():
    """Train SwinMTL with a ResNet and DPT; both parts get a gradient, all one rate."""
    model = tiny_model(
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
        decoder=dict(
            type='MaskFeatures',
            pixel_decoder=dict(
                type='DPTPixelDecoder',
                in_channels=[8, 16, 32, 64],
                feat_channels=16,
                out_channels=16,
                upsample_last=False,
            ),
        ),
        critic=None,
    )
    data = model.data_preprocessor(batch(), True)
    losses = model.loss(data['inputs'], data['data_samples'])
    assert set(losses) == {'loss_depth', 'loss_seg'}
    sum(losses.values()).backward()
    for part in (model.backbone.conv1, model.decoder.pixel_decoder.laterals[0][0]):
        assert part.weight.grad.abs().sum() > 0
    groups = optimizers(model)['model'].optimizer.param_groups
    assert len({group['lr'] for group in groups}) == 1
