"""Test that `train()` and `eval()` of mmpretrain's backbones return the module."""

import subprocess
import sys
from pathlib import Path

import pytest

import mmcast

# Load single files of compat: `import mmcast` would apply all of them.
BUILD = """
import importlib.util, sys
def gap(name):
    spec = importlib.util.spec_from_file_location(name, f'{sys.argv[1]}/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
def build():
    vit = VisionTransformer(
        dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=8), 32, 16
    )
    resnet = ResNet(18, frozen_stages=1)
    for backbone in vit, resnet:
        print(backbone.train() is backbone, backbone.eval() is backbone)
    resnet.train()
    print(resnet.layer1.training, resnet.layer2.training)
gap('transformers_names').apply()
from mmpretrain.models.backbones import ResNet, VisionTransformer
build()
gap('backbone_train').apply()
gap('backbone_train').apply()  # twice does no harm
build()
"""


@pytest.fixture(scope='module')
def lines() -> list[str]:
    """Build backbones without the fix, then with it; three lines each."""
    compat = Path(mmcast.__file__).parent / 'compat'
    command = [sys.executable, '-c', BUILD, str(compat)]
    # The forks print before them.
    return subprocess.check_output(command, text=True).splitlines()[-6:]


def test_without_the_fix_backbones_return_none(lines: list[str]) -> None:
    assert lines[:3] == ['False False', 'False False', 'False True']


def test_with_the_fix_backbones_return_self_and_freeze(lines: list[str]) -> None:
    assert lines[3:] == ['True True', 'True True', 'False True']


def test_mmcast_applies_the_fix() -> None:
    from mmpretrain.models.backbones import ResNet_CIFAR, SwinTransformerV2

    for backbone in ResNet_CIFAR, SwinTransformerV2:
        assert hasattr(backbone.train, 'returns_self')
