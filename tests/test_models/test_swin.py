"""Test that the Swin authors' ImageNet weights load completely or not at all."""

import pytest
import torch
from mmdet.registry import MODELS

SMALL = dict(embed_dims=8, depths=[2, 1, 1, 1], num_heads=[1, 1, 2, 2])


def swin(checkpoint=None):
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    config = dict(
        type='ImageNetSwin', **SMALL, init_cfg=init_cfg if checkpoint else None
    )
    model = MODELS.build(config)
    model.init_weights()
    return model


def authors_name(name):
    for ours, theirs in (
        ('stages.', 'layers.'),
        ('attn.w_msa.', 'attn.'),
        ('ffn.layers.0.0.', 'mlp.fc1.'),
        ('ffn.layers.1.', 'mlp.fc2.'),
        ('patch_embed.projection.', 'patch_embed.proj.'),
    ):
        name = name.replace(ours, theirs)
    return name


def is_output_norm(name):
    return name.startswith(('norm0.', 'norm1.', 'norm2.', 'norm3.'))


@pytest.fixture
def published():
    """Make random weights with the names and shapes of the authors' files."""
    weights = {
        authors_name(name): value if 'index' in name else torch.randn(value.shape)
        for name, value in swin().state_dict().items()
        if not is_output_norm(name)
    }
    extra = {'head.weight': torch.ones(2, 64), 'norm.weight': torch.ones(64)}
    return {**weights, **extra, 'layers.0.blocks.1.attn_mask': torch.ones(4, 49, 49)}


def test_all_weights_are_loaded(published, tmp_path):
    torch.save(dict(model=published), tmp_path / 'swin.pth')
    model = swin(tmp_path / 'swin.pth')
    for name, value in model.state_dict().items():
        if is_output_norm(name):
            assert value.unique().tolist() == [float(name.endswith('weight'))]
        elif 'downsample' not in name:
            assert torch.equal(value, published[authors_name(name)]), name
    # mmdet and the authors merge four neighbours in different orders.
    images = torch.randn(1, 6, 10, 8)
    corners = [images[:, y::2, x::2] for x in (0, 1) for y in (0, 1)]
    merged = torch.nn.functional.layer_norm(
        torch.cat(corners, dim=-1),
        (32,),
        published['layers.0.downsample.norm.weight'],
        published['layers.0.downsample.norm.bias'],
    )
    expected = merged @ published['layers.0.downsample.reduction.weight'].T
    with torch.no_grad():
        found, size = model.stages[0].downsample(images.flatten(1, 2), (6, 10))
    assert size == (3, 5)
    torch.testing.assert_close(found, expected.flatten(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'name', ['layers.2.blocks.0.mlp.fc1.bias', 'patch_embed.proj.bias']
)
def test_incomplete_file_raises(name, published, tmp_path):
    del published[name]
    torch.save(dict(model=published), tmp_path / 'swin.pth')
    with pytest.raises(ValueError, match=r'is missing.*Choose the file that belongs'):
        swin(tmp_path / 'swin.pth')


def test_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'swin\.pth: does not exist'):
        swin(tmp_path / 'swin.pth')
