"""Test that norms have no weight decay, even if a custom key matches them."""

import pytest
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmcast.testing.stock_detectors import stock_detector

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


def groups_of(model, **settings):
    """Return each group's parameter, learning rate and weight decay."""
    config = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.05),
        **settings,
    )
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    return [
        (id(each['params'][0]), each['lr'], each['weight_decay']) for each in groups
    ]


def test_shared_parameter_is_optimised_once():
    """Compare with mmengine's constructor on RTMDet, whose levels share convolutions.

    Both are given RTMDet's own settings, where a custom key cannot interfere.
    """
    model = MODELS.build(
        dict(type='SemiSupervisedSegmentor', student=stock_detector('rtmdet_ins'))
    )
    rtmdets = dict(norm_decay_mult=0, bias_decay_mult=0)
    with pytest.raises(ValueError, match='more than one parameter group'):
        groups_of(model, paramwise_cfg=rtmdets)
    stock = groups_of(model, paramwise_cfg=dict(rtmdets, bypass_duplicate=True))
    assert [each for each, _, _ in stock] == [
        id(p) for p in model.parameters() if p.requires_grad
    ]
    for more in ({}, dict(bypass_duplicate=True)):
        found = groups_of(
            model,
            constructor='NoNormDecayConstructor',
            paramwise_cfg=dict(rtmdets, **more),
        )
        assert found == stock
