"""Test DINOv2 against a reference written from Meta's parameters."""

import pytest
import torch
import torch.nn.functional as F

from mmcast.models.backbones import DINOv2

ARCH = dict(embed_dims=12, num_layers=4, num_heads=2, feedforward_channels=24)
SMALL = dict(arch=ARCH, patch_size=4, img_size=16, out_indices=(0, 1, 2, 3))


def meta_state(seed=0):
    """Make random weights with the names of Meta's file, including the mask token."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * 0.3

    state = {
        'cls_token': draw(1, 1, 12),
        'pos_embed': draw(1, 17, 12),
        'mask_token': draw(1, 12),
        'patch_embed.proj.weight': draw(12, 3, 4, 4),
        'patch_embed.proj.bias': draw(12),
        'norm.weight': draw(12),
        'norm.bias': draw(12),
    }
    for i in range(4):
        for name, shapes in {
            'norm1': [(12,), (12,)],
            'attn.qkv': [(36, 12), (36,)],
            'attn.proj': [(12, 12), (12,)],
            'norm2': [(12,), (12,)],
            'mlp.fc1': [(24, 12), (24,)],
            'mlp.fc2': [(12, 24), (12,)],
        }.items():
            state[f'blocks.{i}.{name}.weight'] = draw(*shapes[0])
            state[f'blocks.{i}.{name}.bias'] = draw(*shapes[1])
        state[f'blocks.{i}.ls1.gamma'] = draw(12)
        state[f'blocks.{i}.ls2.gamma'] = draw(12)
    return state


def reference(state, image):
    """Compute DINOv2's intermediate layers step by step from Meta's parameters."""

    def linear(x, name):
        return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])

    def norm(x, name):
        weight, bias = state[f'{name}.weight'], state[f'{name}.bias']
        return F.layer_norm(x, (12,), weight, bias, eps=1e-6)

    maps = F.conv2d(
        image, state['patch_embed.proj.weight'], state['patch_embed.proj.bias'], 4
    )
    batch, _, height, width = maps.shape
    x = torch.cat([state['cls_token'].expand(batch, -1, -1), maps.flatten(2).mT], 1)
    x = x + state['pos_embed']
    outputs = []
    for i in range(4):
        block = f'blocks.{i}'
        qkv = linear(norm(x, f'{block}.norm1'), f'{block}.attn.qkv')
        query, key, value = (
            part.unflatten(-1, (2, 6)).transpose(1, 2) for part in qkv.chunk(3, -1)
        )
        weights = (query @ key.mT / 6**0.5).softmax(-1)
        attended = (weights @ value).transpose(1, 2).flatten(2)
        attended = linear(attended, f'{block}.attn.proj')
        x = x + attended * state[f'{block}.ls1.gamma']
        hidden = F.gelu(linear(norm(x, f'{block}.norm2'), f'{block}.mlp.fc1'))
        x = x + linear(hidden, f'{block}.mlp.fc2') * state[f'{block}.ls2.gamma']
        tokens = norm(x, 'norm')[:, 1:]
        outputs.append(tokens.mT.unflatten(-1, (height, width)))
    return outputs


def load(tmp_path, content, **kwargs):
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    model = DINOv2(
        **{**SMALL, **kwargs}, init_cfg=dict(type='Pretrained', checkpoint=str(path))
    )
    model.init_weights()
    return model.eval()


def test_metas_weights_give_the_reference_outputs(tmp_path):
    state = meta_state()
    model = load(tmp_path, state)
    image = torch.randn(2, 3, 16, 16)
    for ours, expected in zip(model(image), reference(state, image), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_every_output_is_normalised_once(tmp_path):
    state = meta_state()
    weight, bias = torch.linspace(1, 3, 12), torch.linspace(-1, 1, 12)
    state['norm.weight'], state['norm.bias'] = weight, bias
    for output in load(tmp_path, state)(torch.randn(1, 3, 16, 16)):
        # Undone once, it must be normalised: no output is normalised twice.
        before = (output - bias[:, None, None]) / weight[:, None, None]
        torch.testing.assert_close(
            before.mean(1), torch.zeros(1, 4, 4), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            before.var(1, unbiased=False), torch.ones(1, 4, 4), atol=1e-3, rtol=0
        )


def test_mmpretrain_weights_give_the_same_outputs(tmp_path):
    model = load(tmp_path, meta_state())
    converted = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    other = load(tmp_path, dict(state_dict=converted))
    image = torch.randn(1, 3, 20, 12)
    for a, b in zip(model(image), other(image), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(arch={**ARCH, 'embed_dims': 8, 'feedforward_channels': 16}),
            r'cls_token is \(1, 1, 12\), not \(1, 1, 8\)',
        ),
        (dict(arch={**ARCH, 'num_layers': 5}), r'layers\.4\.ln1\.weight is missing'),
        (
            dict(arch={**ARCH, 'num_layers': 3}, out_indices=(0, 1, 2)),
            r'layers\.3\..* is unexpected',
        ),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, meta_state(), **change)


def test_missing_file_is_named_in_the_error():
    init_cfg = dict(type='Pretrained', checkpoint='nowhere/dinov2_vits14_pretrain.pth')
    with pytest.raises(FileNotFoundError, match=r'nowhere/dinov2_vits14_pretrain\.pth'):
        DINOv2(**SMALL, init_cfg=init_cfg).init_weights()


def test_offline_error_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = 'http://127.0.0.1:9/dinov2_vits14_pretrain.pth'
    init_cfg = dict(type='Pretrained', checkpoint=url)
    place = tmp_path / 'hub' / 'checkpoints' / 'dinov2_vits14_pretrain.pth'
    with pytest.raises(FileNotFoundError) as error:
        DINOv2(**SMALL, init_cfg=init_cfg).init_weights()
    assert str(place) in str(error.value)
    # With the file in that place, loading works.
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(meta_state(), place)
    DINOv2(**SMALL, init_cfg=init_cfg).init_weights()


def test_input_size_not_a_patch_multiple_raises():
    with pytest.raises(ValueError, match='pad_size_divisor=4'):
        DINOv2(**SMALL)(torch.zeros(1, 3, 18, 16))


def test_dinov2_small_has_the_published_parameter_count():
    count = sum(p.numel() for p in DINOv2().parameters())
    assert count == 22_056_576 - 384


@pytest.mark.parametrize(('depth', 'expected'), [(4, [0, 1, 2, 3]), (8, [1, 3, 5, 7])])
def test_default_is_one_output_per_quarter_of_blocks(depth, expected):
    arch = dict(embed_dims=8, num_layers=depth, num_heads=2, feedforward_channels=8)
    backbone = DINOv2(arch=arch, img_size=28)
    assert list(backbone.out_indices) == expected
    assert len(backbone(torch.zeros(1, 3, 28, 28))) == 4


def test_dinov2_small_outputs_the_published_blocks():
    backbone = DINOv2(arch='dinov2-small', img_size=28)
    assert list(backbone.out_indices) == [2, 5, 8, 11]
