"""Test that norms have no weight decay, even if a custom key matches them."""

import pytest
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

CONFIGS = 'configs/mmcast/'


@pytest.mark.parametrize(
    ('name', 'rates'),
    [('supervised_cityscapes', {5e-5, 5e-6}), ('supervised_synthscapes', {1e-3})],
)
def test_weight_decay_of_every_parameter(name, rates):
    config = Config.fromfile(f'{CONFIGS}{name}.py')
    config.model.init_cfg = config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    decay = {
        id(group['params'][0]): group['weight_decay']
        for group in wrapper.optimizer.param_groups
    }
    found = {round(group['lr'], 9) for group in wrapper.optimizer.param_groups}
    assert found == rates
    base = config.optim_wrapper.optimizer.weight_decay
    norms = 0
    for module_name, module in model.named_modules():
        kind = isinstance(module, nn.LayerNorm | nn.BatchNorm2d | nn.GroupNorm)
        for part, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            full = f'{module_name}.{part}'
            none = kind or any(
                key in full
                for key in (
                    *('query_embed', 'query_feat', 'level_embed'),
                    *('pos_embed', 'cls_token'),
                )
            )
            assert decay[id(parameter)] == (0 if none else base), full
            norms += kind
    assert norms > 20


def test_reassemble_has_the_encoders_learning_rate():
    config = Config.fromfile(f'{CONFIGS}supervised_cityscapes.py')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    slow = {
        id(group['params'][0])
        for group in wrapper.optimizer.param_groups
        if group['lr'] == pytest.approx(5e-6)
    }
    expected = {
        id(p)
        for n, p in model.named_parameters()
        if n.startswith('backbone.') or '.reassemble.' in n
    }
    assert slow == expected
