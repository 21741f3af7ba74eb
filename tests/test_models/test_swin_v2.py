"""Test Swin V2 against a slow one that reads the authors' weights."""

import re
from functools import partial

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmpretrain.models.backbones import SwinTransformerV2
from swin_v2_oracle import random_state, swin_v2
from torch import nn

from mmcast.models.backbones import SwinV2

DEPTHS, HEADS = [2, 2, 2, 2], [1, 2, 2, 4]
ARCH = dict(embed_dims=8, depths=DEPTHS, num_heads=HEADS, extra_norm_every_n_blocks=0)
WINDOWS = dict(window_size=(5, 4, 3, 2), pretrained_window_sizes=(4, 3, 0, 2))
PUBLISHED_SHIFT = (True, True, False, False)


def small(**kwargs):
    return SwinV2(**{'arch': ARCH, **WINDOWS, **kwargs})


def mmpretrains(**kwargs):
    return SwinTransformerV2(**{'arch': ARCH, 'pad_small_map': True, **kwargs})


def randomise(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def set_epsilon(model, eps):
    for norm in model.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.eps = eps


def load(tmp_path, content, **kwargs):
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    model = small(**kwargs, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    model.init_weights()
    return model.eval()


def simmim_file(state):
    """Add what SimMIM's files have besides: prefix, decoder, tables of its window."""
    state = {
        **state,
        'mask_token': torch.ones(1, 1, 8),
        'layers.0.blocks.1.attn_mask': torch.ones(4, 36, 36),
        'layers.0.blocks.1.attn.relative_coords_table': torch.ones(1, 11, 11, 2),
        'layers.0.blocks.1.attn.relative_position_index': torch.ones(36, 36).long(),
    }
    state = {f'encoder.{name}': tensor for name, tensor in state.items()}
    decoder = {'decoder.0.weight': torch.ones(3, 2), 'decoder.0.bias': torch.ones(3)}
    return dict(model={**state, **decoder}, epoch=800)


def imagenet_file(state):
    """Add the classifier of the files of Swin V2's authors."""
    return dict(
        model={**state, 'head.weight': torch.ones(2, 64), 'head.bias': torch.ones(2)}
    )


def swinmtl_file(state):
    """Rename the last norm as in SwinMTL's encoder and add its decoder."""
    state = {f'encoder.{name}': tensor for name, tensor in state.items()}
    for part in ('weight', 'bias'):
        state[f'encoder.norm3.{part}'] = state.pop(f'encoder.norm.{part}')
    return dict(model={**state, 'decoder.conv_layers.0.bias': torch.ones(3)})


def build_on_meta(**kwargs):
    """Build through the registry without memory for the weights."""
    with pytest.MonkeyPatch.context() as patch, torch.device('meta'):
        # The drop rates are read, so they must be real.
        patch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
        return MODELS.build(dict(type='SwinV2', **kwargs))


def test_base_has_the_published_parameter_count():
    for model in (build_on_meta(), build_on_meta(arch='base')):
        assert sum(p.numel() for p in model.parameters()) == 86_893_816


@pytest.mark.parametrize(
    ('arch', 'width', 'depths', 'heads', 'extra_norms'),
    [
        ('tiny', 96, (2, 2, 6, 2), 3, 0),
        ('small', 96, (2, 2, 18, 2), 3, 0),
        ('base', 128, (2, 2, 18, 2), 4, 0),
        ('large', 192, (2, 2, 18, 2), 6, 0),
        ('huge', 352, (2, 2, 18, 2), 8, 3),
    ],
)
def test_parameter_count_by_formula(arch, width, depths, heads, extra_norms):
    expected = 51 * width + 2 * 8 * width  # embedding of 4 x 4 pixels, last norm
    expected += extra_norms * 2 * 4 * width  # all in the third stage
    for i, depth in enumerate(depths):
        w, h = width * 2**i, heads * 2**i
        expected += depth * (12 * w**2 + 12 * w + 513 * h + 3 * 512)
        if i < 3:
            expected += 8 * w**2 + 4 * w  # patch merging
    model = build_on_meta(arch=arch)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize('size', [(48, 80), (50, 70)])
@pytest.mark.parametrize(
    ('make_file', 'mlp'),
    [
        (simmim_file, 'rpe_mlp'),
        (imagenet_file, 'cpb_mlp'),
        (swinmtl_file, 'rpe_mlp'),
    ],
)
def test_authors_weights_give_the_reference_output(tmp_path, make_file, mlp, size):
    state = random_state(8, DEPTHS, HEADS, mlp)
    model = load(tmp_path, make_file(state)).double()
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    (found,) = model(image)
    settings = (DEPTHS, HEADS, *WINDOWS.values())
    expected = swin_v2(state, image, *settings, PUBLISHED_SHIFT, mlp=mlp)
    assert found.shape == (2, 64, 2, 3)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_reference_output_depends_on_every_setting(tmp_path):
    state = random_state(8, DEPTHS, HEADS)
    image = torch.randn(2, 3, 50, 70, dtype=torch.float64)
    (found,) = load(tmp_path, state).double()(image)

    def difference(**changes):
        settings = dict(depths=DEPTHS, heads=HEADS, shift=PUBLISHED_SHIFT)
        settings |= dict(zip(('windows', 'pretrained'), WINDOWS.values(), strict=True))
        other = swin_v2(state, image, **{**settings, **changes})
        return (found - other).abs().max()

    assert difference() < 1e-6
    assert difference(corners=((0, 0), (0, 1), (1, 0), (1, 1))) > 0.1
    assert difference(shift=(True, True, True, False)) > 0.1
    assert difference(shift=(True, True, False, True)) > 0.1
    assert difference(shift=(True, False, False, False)) > 0.1
    assert difference(windows=(4, 4, 3, 2)) > 0.1
    assert difference(pretrained=(4, 3, 2, 2)) > 0.01
    model = load(tmp_path, state).double()
    set_epsilon(model, 1e-5)
    assert (found - model(image)[0]).abs().max() > 0.1


def test_shift_of_every_stage_is_a_setting(tmp_path):
    state = random_state(8, DEPTHS, HEADS)
    image = torch.randn(1, 3, 50, 70, dtype=torch.float64)
    shift = (False, True, True, True)
    (found,) = load(tmp_path, state, shift=shift).double()(image)
    expected = swin_v2(state, image, DEPTHS, HEADS, *WINDOWS.values(), shift)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_norms_have_one_epsilon():
    norms = [m for m in small().modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 1 + 2 * sum(DEPTHS) + 3 + 1
    assert {norm.eps for norm in norms} == {1e-6}


def possible_outputs(block, x, size, rate):
    """Compute a block's output with both branches, one, or none dropped."""
    block.eval()
    outputs = []
    for first in (0, 1 / (1 - rate)):
        middle = x + first * block.norm1(block.attn(x, size))
        for second in (0, 1 / (1 - rate)):
            outputs.append(middle + second * block.norm2(block.ffn(middle)))
    block.train()
    return outputs


@torch.no_grad()
def test_drop_path_drops_a_branch_after_its_norm():
    model = randomise(small(drop_path_rate=0.5)).double()
    block = model.stages[3].blocks[1]  # the last: it has the full rate
    x = torch.randn(64, 6, 64, dtype=torch.float64)
    possible = torch.stack(possible_outputs(block, x, (2, 3), 0.5))
    near = ((possible - block(x, (2, 3))).abs() < 1e-9).flatten(2).all(-1)
    assert near.sum(0).tolist() == [1] * 64  # each sample is one of the four
    assert near.any(1).all()  # and each of the four occurs
    assert torch.equal(possible[0], x)


@torch.no_grad()
def test_mmpretrain_drops_a_branch_before_its_norm():
    """mmpretrain adds the norms' biases to a sample whose branches are dropped."""
    model = randomise(mmpretrains(drop_path_rate=0.5)).double().train()
    block = model.stages[3].blocks[1]
    x = torch.randn(64, 6, 64, dtype=torch.float64)
    found = block(x, (2, 3))
    biases = block.norm1.bias + block.norm2.bias
    dropped = ((found - x - biases).abs() < 1e-9).flatten(1).all(-1)
    assert dropped.any()
    assert not dropped.all()


def test_drop_rates_grow_linearly_over_all_blocks():
    model = small(drop_path_rate=0.35)
    blocks = [block for stage in model.stages for block in stage.blocks]
    expected = pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35])
    assert [block.norm1.drop_prob for block in blocks] == expected
    assert [block.norm2.drop_prob for block in blocks] == expected
    # mmpretrain's own, before the norm, is off.
    others = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    assert set(others) == {0.0}


@torch.no_grad()
def test_evaluation_drops_nothing():
    model = randomise(small(drop_path_rate=0.9)).eval()
    image = torch.randn(2, 3, 40, 40)
    other = small(drop_path_rate=0.0).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(image)[0], other(image)[0])


@torch.no_grad()
def test_extra_norm_is_never_dropped():
    arch = {**ARCH, 'extra_norm_every_n_blocks': 2}
    model = randomise(small(arch=arch, drop_path_rate=0.5)).double()
    assert [block.extra_norm for block in model.stages[3].blocks] == [False, True]
    block = model.stages[3].blocks[1]
    x = torch.randn(64, 6, 64, dtype=torch.float64)
    possible = torch.stack(possible_outputs(block, x, (2, 3), 0.5))
    possible = nn.functional.layer_norm(
        possible, (64,), block.norm3.weight, block.norm3.bias, eps=1e-6
    )
    near = ((possible - block(x, (2, 3))).abs() < 1e-9).flatten(2).all(-1)
    assert near.sum(0).tolist() == [1] * 64


@torch.no_grad()
def test_blocks_start_as_the_identity():
    model = small(arch={**ARCH, 'extra_norm_every_n_blocks': 2}).eval()
    model.init_weights()
    ends = ('norm1', 'norm2')
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            is_end = '.blocks.' in name and name.endswith(ends)
            assert module.weight.unique().tolist() == pytest.approx(
                [1e-5 if is_end else 1.0]
            ), name
            assert not module.bias.any(), name
    x = torch.randn(2, 30, 8)
    change = (model.stages[0].blocks[0](x, (5, 6)) - x).abs().max()
    # A norm of 8 channels gives at most sqrt(7); there are two.
    assert 0 < change < 2 * 7**0.5 * 1.1e-5


@torch.no_grad()
def test_mmpretrains_file_gives_mmpretrains_output(tmp_path):
    source = randomise(mmpretrains(window_size=[4, 3, 4, 2]))
    content = {f'backbone.{name}': v for name, v in source.state_dict().items()}
    content['head.fc.weight'] = torch.ones(2, 64)
    trained = dict(pretrained_window_sizes=(4, 3, 4, 2))
    model = load(tmp_path, dict(state_dict=content), **trained, shift=(True,) * 4)
    other = mmpretrains(window_size=list(WINDOWS['window_size']), **trained).eval()
    other.load_state_dict(source.state_dict(), strict=False)
    set_epsilon(other, 1e-6)
    image = torch.randn(2, 3, 50, 70)
    torch.testing.assert_close(model(image), other(image))


@torch.no_grad()
@pytest.mark.parametrize('extra', [{}, {'mask_token': torch.ones(1, 1, 8)}])
def test_exported_backbone_loads(tmp_path, extra):
    """A file without prefix, with a mask token if SimMIM has trained it."""
    source = randomise(small(window_size=(6, 4, 4, 3)))
    model = load(tmp_path, dict(state_dict={**source.state_dict(), **extra}))
    for found, expected in zip(model.parameters(), source.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_checkpoint_of_another_window_loads_strictly():
    source = nn.ModuleDict(dict(backbone=randomise(small(window_size=(6, 4, 4, 3)))))
    model = nn.ModuleDict(dict(backbone=small()))
    own = {k: v.clone() for k, v in model.state_dict().items() if 'relative' in k}
    model.load_state_dict(source.state_dict())
    for name, value in model.state_dict().items():
        expected = own[name] if name in own else source.state_dict()[name]
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(embed_dims=16), r'is \(8, 3, 4, 4\), not \(16, 3, 4, 4\)'),
        (dict(depths=[2, 2, 3, 2]), r'stages\.2\.blocks\.2\..* is missing'),
        (dict(depths=[2, 2, 1, 2]), r'stages\.2\.blocks\.1\..* is unexpected'),
        (dict(num_heads=[1, 2, 4, 4]), r'stages\.2\.blocks\.0\..*logit_scale is'),
    ],
)
def test_file_of_another_architecture_is_refused(tmp_path, change, message):
    content = simmim_file(random_state(8, DEPTHS, HEADS, 'rpe_mlp'))
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, content, arch={**ARCH, **change})
    text = str(error.value)
    assert text.startswith(f'{tmp_path / "weights.pth"} is not a checkpoint of this')
    assert text.endswith('Choose the file that belongs to the configured architecture.')
    assert '\n' not in text


@pytest.mark.parametrize(
    'name',
    ['norm.bias', 'layers.0.downsample.norm.weight', 'layers.3.blocks.1.attn.q_bias'],
)
def test_incomplete_file_is_refused(tmp_path, name):
    state = random_state(8, DEPTHS, HEADS)
    del state[name]
    with pytest.raises(ValueError, match=r'^\S+ is not .*: 1 of \d+ .* is missing'):
        load(tmp_path, state)


def test_missing_file_is_named_in_the_error():
    init_cfg = dict(type='Pretrained', checkpoint='nowhere/swin_v2.pth')
    message = r'nowhere/swin_v2\.pth: does not exist: put the file there'
    with pytest.raises(FileNotFoundError, match=message):
        small(init_cfg=init_cfg).init_weights()


def test_offline_error_says_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = 'http://127.0.0.1:9/swin_v2.pth'
    place = tmp_path / 'hub' / 'checkpoints' / 'swin_v2.pth'
    with pytest.raises(FileNotFoundError) as error:
        small(init_cfg=dict(type='Pretrained', checkpoint=url)).init_weights()
    assert str(place) in str(error.value)


def test_layers_of_base_decay_as_published():
    model = build_on_meta(arch='base')
    layers, slots = {}, set()
    for name, _ in model.named_parameters():
        layers[name], count = model.layer_depth(name)
        slots.add(count)
    assert slots == {29}
    assert set(layers.values()) == set(range(29))
    scales = {}
    for name, layer in layers.items():
        part = re.match(r'stages\.\d\.(blocks\.\d+|downsample)|\w+', name)[0]
        scales.setdefault(part, set()).add(round(0.9 ** (28 - layer), 3))
    assert len(scales) == 29
    assert all(len(found) == 1 for found in scales.values())
    published = {
        'patch_embed': 0.052,
        'stages.0.blocks.0': 0.058,
        'stages.0.blocks.1': 0.065,
        'stages.1.downsample': 0.072,
        'stages.1.blocks.0': 0.080,
        'stages.1.blocks.1': 0.089,
        'stages.2.downsample': 0.098,
        'stages.2.blocks.0': 0.109,
        'stages.2.blocks.17': 0.656,
        'stages.3.downsample': 0.729,
        'stages.3.blocks.0': 0.810,
        'stages.3.blocks.1': 0.900,
        'norm3': 1.0,
    }
    for part, scale in published.items():
        assert scales[part] == {scale}, part


def test_builds_without_mmdets_scope():
    with DefaultScope.overwrite_default_scope('mmengine'):
        small()
