"""Convert a generated checkpoint in the research code's layout."""

import os
import re
from pathlib import Path

import pytest
import swin_v2_oracle
import torch
from mmdet.registry import MODELS
from mmengine import Config
from torch import nn
from torch.nn import functional as F

from mmcast.testing import CONFIGS

SCRIPT = CONFIGS.parents[1] / 'tools/misc/convert_swinmtl.py'
DEPTHS, HEADS = [1, 1, 2, 1], [1, 1, 2, 2]
CONFIG = f"""
_base_ = '{CONFIGS / 'swinmtl/cityscapes.py'}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinV2',
        arch=dict(
            embed_dims=8,
            depths={DEPTHS},
            num_heads={HEADS},
            extra_norm_every_n_blocks=0,
        ),
        window_size=[4, 4, 4, 2],
        pretrained_window_sizes=[0, 0, 0, 0],
    ),
    decoder=dict(in_channels=64, channels=4, out_channels=8),
    depth_head=dict(in_channels=8),
    seg_head=dict(in_channels=8),
    critic=None,
)
"""


class TheirParts(nn.ModuleDict):
    """Decoder and heads under the names of the research code."""

    def __init__(self):
        layers = []
        for before in (64, 4, 4):
            deconv = nn.ConvTranspose2d(before, 4, 2, stride=2, bias=False)
            layers += [deconv, nn.BatchNorm2d(4), nn.ReLU()]
        conv = [nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
        decoder = nn.ModuleDict(
            dict(deconv_layers=nn.Sequential(*layers), conv_layers=nn.Sequential(*conv))
        )
        parts = dict(decoder=decoder)
        for name, out in (('last_layer_depth', 1), ('last_layer_seg', 20)):
            parts[name] = nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(8, out, 3, padding=1),
            )
        super().__init__(parts)

    def forward(self, x):
        x = self.decoder.conv_layers(self.decoder.deconv_layers(x))
        for _ in range(2):
            x = F.interpolate(x, scale_factor=2, mode='bilinear')
        code = self.last_layer_depth(x).sigmoid()
        return 1e-3 * (80 / 1e-3) ** code, self.last_layer_seg(x)


@pytest.fixture
def run(warm):
    def convert(folder, *words):
        return warm(SCRIPT, *words, '--config', 'config.py', cwd=folder)

    return convert


@pytest.fixture
def world(tmp_path):
    """Write a small config and a checkpoint with random weights."""
    (tmp_path / 'config.py').write_text(CONFIG)
    encoder = swin_v2_oracle.random_state(8, DEPTHS, HEADS, mlp='rpe_mlp')
    parts = TheirParts().eval()
    for value in parts.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.9)
    state = {f'module.encoder.{k}': v.float() for k, v in encoder.items()}
    state |= {f'module.{k}': v for k, v in parts.state_dict().items()}
    torch.save(dict(model=state, epoch=200), tmp_path / 'theirs.ckpt')
    return tmp_path, parts, state


def test_converted_model_predicts_the_same(run, world):
    folder, parts, _ = world
    done = run(folder, 'theirs.ckpt', 'ours.pth')
    assert done.returncode == 0, done.stderr
    os.environ['PRESET'] = 'research_code'
    try:
        config = Config.fromfile(folder / 'config.py').model
    finally:
        del os.environ['PRESET']
    config.backbone.init_cfg = None
    model = MODELS.build(config).eval()
    content = torch.load(folder / 'ours.pth', weights_only=True)
    assert content['meta']['dataset_meta']['classes'][-1] == 'void'
    model.load_state_dict(content['state_dict'])
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = model.predict_maps(image)
        depth, logits = parts(model.backbone(image)[-1])
    torch.testing.assert_close(found['depth'], depth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found['seg'], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.popitem(), 'is missing'),
        (
            lambda state: state.update({'module.last_layer_seg.2.bias': torch.ones(3)}),
            r'seg_head.layers.2.bias is \(3,\), not \(20,\)',
        ),
    ],
)
def test_other_files_are_refused_in_one_line(run, world, change, message):
    folder, _, state = world
    change(state)
    torch.save(dict(model=state), folder / 'theirs.ckpt')
    done = run(folder, 'theirs.ckpt', 'ours.pth')
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('error: theirs.ckpt: it is not of this network')
    assert re.search(message, last)
    assert not Path(folder, 'ours.pth').exists()
    done = run(folder, 'no.ckpt', 'ours.pth')
    assert 'error: no.ckpt' in done.stderr
