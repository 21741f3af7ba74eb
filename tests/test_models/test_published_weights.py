"""Test that our loaders take the weights that others publish, by names and shapes.

The files are large or gated, so ``tests/published_weights`` lists what is in them: SAM
2 and SAM 3 as transformers' video models (``facebook/sam2.1-*``, ``facebook/sam3``),
MM-Grounding-DINO as mmdet's own config, DINOv2 as Meta's code has it. A file keeps its
names when a library renames its own, and so does a list.
"""

from functools import partial

import pytest
import torch
from mmdet.models.language_models import bert
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from torch import nn
from transformers import BertConfig, BertModel, Sam2VideoConfig, Sam2VideoModel
from weight_lists import fold, read, unfold

from mmcast import checkpoints
from mmcast.models.segmenters.sam2 import ENCODERS, sam2_config
from mmcast.testing import CONFIGS, save_bert

DINOV2 = {'dinov2-small': 's', 'base': 'b', 'large': 'l'}
SWIN_L = 'mm_grounding_dino_swin-l'
# Millions of weights that their pages name.
PUBLISHED = {
    **dict(dinov2_vits14=22.06, dinov2_vitb14=86.58, dinov2_vitl14=304.37),
    **{'sam2.1_hiera_tiny': 38.9, 'sam2.1_hiera_small': 46.0},
    **{'sam2.1_hiera_base-plus': 80.8, 'sam2.1_hiera_large': 224.4},
}


@pytest.fixture
def without_memory(monkeypatch):
    """Build models without memory for their weights."""
    # Drop rates are read, so they must be real.
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
    with torch.device('meta'):
        yield


@pytest.fixture
def loads(monkeypatch):
    """Load a list as if it were a file; return the names that nothing took."""

    def load(name: str, part: nn.Module, whole: nn.Module | None = None) -> set[str]:
        state, taken = read(name), set()

        def take(module, found):
            taken.update(id(weight) for weight in found.values())

        monkeypatch.setattr(checkpoints, 'weights_of', lambda source: dict(state))
        monkeypatch.setattr(nn.Module, 'load_state_dict', take)
        part.init_cfg = dict(type='Pretrained', checkpoint='published')
        (whole or part).init_weights()
        return {key for key, weight in state.items() if id(weight) not in taken}

    return load


@pytest.mark.parametrize('name', PUBLISHED)
def test_lists_have_the_published_size(name):
    count = sum(weight.numel() for weight in read(name).values())
    assert count / 1e6 == pytest.approx(PUBLISHED[name], abs=0.07)


def test_a_folded_list_unfolds_to_the_same_weights():
    names = ['a', 'a.0.b1.w', 'a.1.b1.w', 'a.1.b2.w', 'a.10.b2', 'c3', 'c4', 'c6']
    weights = {name: torch.empty(2, 3) for name in names}
    weights['c5'] = torch.tensor(0.0)
    lines = fold(weights)
    assert 'c{3-4,6} 2 3' in lines
    assert {k: w.shape for k, w in unfold(lines).items()} == {
        k: w.shape for k, w in weights.items()
    }


@pytest.mark.parametrize('arch', DINOV2)
def test_dinov2(arch, without_memory, loads):
    network = MODELS.build(dict(type='DINOv2', arch=arch))
    assert loads(f'dinov2_vit{DINOV2[arch]}14', network) == {'mask_token'}


@pytest.mark.parametrize('arch', ENCODERS)
def test_sam2(arch, without_memory, loads):
    """The video model's memory is left, and nothing else."""
    published = Sam2VideoModel(
        Sam2VideoConfig(vision_config=sam2_config(arch).vision_config.to_dict())
    ).state_dict()
    del published['prompt_encoder.shared_embedding.positional_embedding']  # tied
    name = f'sam2.1_hiera_{arch}'
    assert fold(published) == fold(read(name))
    left = loads(name, MODELS.build(dict(type='Sam2Segmenter', arch=arch)))
    video = ('memory_', 'mask_downsample', 'no_', 'object_pointer_', 'occlusion_')
    temporal = 'temporal_positional_encoding_projection_layer'
    assert all(key.startswith((*video, temporal)) for key in left)
    left = loads(name, MODELS.build(dict(type='Sam2Hiera', arch=arch)))
    prefix = 'vision_encoder.backbone.'
    assert not any(key.startswith(prefix) for key in left)


def test_grounding_dino(without_memory, loads, monkeypatch, tmp_path):
    """The detector of CAST's teacher is mmdet's own, and takes all of its file."""
    with torch.device('cpu'):
        save_bert(tmp_path)
    BertConfig().save_pretrained(tmp_path)
    monkeypatch.setattr(
        bert.HFBertModel,
        'from_pretrained',
        lambda name, **options: BertModel(BertConfig(), add_pooling_layer=False),
    )
    own = get_config('mmdet::mm_grounding_dino/grounding_dino_swin-l_pretrain_all.py')
    own.model.language_model.name = str(tmp_path)
    own.model.backbone.init_cfg = None
    published = MODELS.build(own.model)
    assert fold(published.state_dict()) == fold(read(SWIN_L))
    config = Config.fromfile(CONFIGS / 'adapt_cityscapes.py').model
    config.detector.language_model.name = str(tmp_path)
    teacher = MODELS.build(config)
    teacher.segmenter.init_cfg = None
    assert loads(SWIN_L, teacher.detector, teacher) == set()
