"""Test SAM 2's image encoder as a backbone."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import Sam2Model

from mmcast.models.backbones import Sam2Hiera
from mmcast.models.segmenters.sam2 import sam2_config
from mmcast.testing import SAM2


def save_published(tmp_path):
    model = Sam2Model(sam2_config(SAM2)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    path = tmp_path / 'model.safetensors'
    save_file({k: v.clone() for k, v in model.state_dict().items()}, path)
    return model, dict(type='Pretrained', checkpoint=str(path))


def test_maps_equal_those_of_sam2s_image_encoder(tmp_path):
    model, init_cfg = save_published(tmp_path)
    backbone = Sam2Hiera(SAM2, init_cfg=init_cfg).eval()
    backbone.init_weights()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = backbone(image)
        expected = model.vision_encoder.backbone(image).intermediate_hidden_states
    assert [m.shape for m in maps] == [
        (2, c, 64 // s, 96 // s)
        for c, s in zip((8, 16, 32, 64), (4, 8, 16, 32), strict=True)
    ]
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs.permute(0, 3, 1, 2))


def test_unsuitable_files_and_inputs_raise(tmp_path):
    _, init_cfg = save_published(tmp_path)
    with pytest.raises(ValueError, match=r'not a checkpoint of this Sam2HieraDetModel'):
        Sam2Hiera('tiny', init_cfg=init_cfg).init_weights()
    init_cfg = dict(type='Pretrained', checkpoint='nowhere/model.safetensors')
    with pytest.raises(FileNotFoundError, match=r'nowhere/model\.safetensors'):
        Sam2Hiera(SAM2, init_cfg=init_cfg).init_weights()
    with pytest.raises(ValueError, match='pad_size_divisor=32'):
        Sam2Hiera(SAM2)(torch.zeros(1, 3, 64, 70))


def test_hiera_small_has_the_published_channels():
    with torch.device('meta'):
        backbone = Sam2Hiera('small')
    assert [m.shape[1] for m in backbone(torch.zeros(1, 3, 64, 64, device='meta'))] == [
        *(96, 192, 384, 768)
    ]
