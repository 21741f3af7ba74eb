"""Compare the pyramid of a plain transformer with a computation by hand."""

import pytest
import torch
from mmdet.registry import MODELS

ARCH = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
VITS = dict(
    dinov2=dict(type='DINOv2', arch=ARCH, out_indices=[1], img_size=56),
    deit=dict(
        type='mmpretrain.VisionTransformer',
        arch=ARCH,
        img_size=64,
        patch_size=16,
        out_type='featmap',
    ),
)


def pyramid(vit='dinov2', checkpoint=None, **changes):
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    model = MODELS.build(
        dict(
            type='ViTPyramid',
            vit=dict(VITS[vit], **changes),
            out_channels=[4, 5, 6, 7],
            init_cfg=init_cfg if checkpoint else None,
        )
    )
    model.init_weights()
    return model.eval()


def nearest(maps, height, width):
    rows = [y * maps.shape[-2] // height for y in range(height)]
    columns = [x * maps.shape[-1] // width for x in range(width)]
    return maps[:, :, rows][:, :, :, columns]


def last_tokens(vit, images):
    """Return the last tokens as (B, C, h, w); patches must tile the images."""
    patches, size = vit.patch_embed(images)
    tokens = torch.cat([vit.cls_token.expand(len(images), -1, -1), patches], dim=1)
    tokens = tokens + vit.resize_pos_embed(
        vit.pos_embed, vit.patch_resolution, size, mode='bicubic', num_extra_tokens=1
    )
    for layer in vit.layers:
        tokens = layer(tokens)
    tokens = torch.nn.functional.layer_norm(
        tokens, tokens.shape[-1:], vit.ln1.weight, vit.ln1.bias, 1e-6
    )
    return tokens[:, 1:].transpose(1, 2).unflatten(2, size)


@pytest.mark.parametrize(
    ('vit', 'size', 'whole'),
    [
        ('dinov2', (45, 71), (56, 84)),
        ('dinov2', (64, 96), (70, 98)),
        ('dinov2', (56, 84), (56, 84)),  # already tiled: not resized
        ('deit', (45, 71), (48, 80)),
        ('deit', (64, 96), (64, 96)),
    ],
)
@torch.no_grad()
def test_maps_equal_those_computed_by_hand(vit, size, whole):
    model = pyramid(vit)
    model.vit.ln1.weight.uniform_(0.5, 2)
    model.vit.ln1.bias.uniform_(-1, 1)
    images = torch.randn(2, 3, *size)
    tokens = last_tokens(model.vit, nearest(images, *whole))
    maps = model(images)
    for level, conv, stride in zip(maps, model.levels, (4, 8, 16, 32), strict=True):
        height, width = (-(-side // stride) for side in size)
        assert level.shape == (2, conv.out_channels, height, width)
        expected = torch.einsum(
            'bchw,dc->bdhw', nearest(tokens, height, width), conv.weight[:, :, 0, 0]
        )
        expected = expected + conv.bias[:, None, None]
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('vit', VITS)
def test_every_weight_has_a_gradient(vit):
    model = pyramid(vit).train()
    sum(level.square().sum() for level in model(torch.randn(1, 3, 45, 71))).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('vit', VITS)
def test_published_files_are_loaded_completely(vit, tmp_path):
    source = pyramid(vit).vit.state_dict()
    state = {f'backbone.{name}': value for name, value in source.items()}
    file = tmp_path / 'converted.pth'
    torch.save(dict(state_dict={**state, 'head.layers.head.bias': torch.ones(3)}), file)
    found = pyramid(vit, file).vit.state_dict()
    assert all(torch.equal(value, source[name]) for name, value in found.items())

    file = tmp_path / 'partial.pth'
    del state['backbone.layers.1.ffn.layers.1.bias']
    torch.save(dict(state_dict=state), file)
    with pytest.raises(ValueError, match=r'1\.ffn\.layers\.1\.bias is missing'):
        pyramid(vit, file)


def test_weights_of_another_transformer_are_refused(tmp_path):
    file = tmp_path / 'dinov2.pth'
    torch.save(pyramid('dinov2').vit.state_dict(), file)
    with pytest.raises(ValueError, match='not a checkpoint of this VisionTransformer'):
        pyramid('deit', file)
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth: does not exist'):
        pyramid('deit', tmp_path / 'nowhere.pth')
