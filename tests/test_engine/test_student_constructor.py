"""Test that layer decay of a detector is the same beside a teacher."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from stock_students import stock_wrapper

from mmcast.models.detectors.with_classes import for_classes
from mmcast.testing.stock_detectors import ZOO

CONVNEXT = ZOO / 'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'
CONTRAST = dict(
    type='PixelContrastHead',
    in_channels=256,
    in_index=2,
    loss=dict(type='PixelContrastLoss'),
)


@pytest.fixture(scope='module')
def convnext():
    """Return mmdet's ConvNeXt: its model without weights of ImageNet, its optimiser."""
    config = Config.fromfile(CONVNEXT)
    model = for_classes(config.model, 8)
    model.backbone.init_cfg = None
    config.optim_wrapper.type = 'OptimWrapper'  # mixed precision needs a GPU
    return model, config.optim_wrapper


def rates(wrapper, model):
    """Return rate and weight decay of each weight, by name."""
    settings = {
        id(weight): (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for weight in group['params']
    }
    return {name: settings[id(weight)] for name, weight in model.named_parameters()}


@pytest.mark.parametrize('contrast', [None, CONTRAST])
def test_layer_decay_is_that_of_the_detector(contrast, convnext):
    detector, optimizer = convnext
    plain = MODELS.build(detector)
    expected = rates(build_optim_wrapper(plain, optimizer), plain)
    assert len({rate for rate, _ in expected.values()}) > 5
    model = stock_wrapper(detector, pixel_contrast=contrast)
    with pytest.raises(AttributeError, match='backbone'):
        build_optim_wrapper(model, optimizer)
    changed = copy.deepcopy(optimizer)
    changed.paramwise_cfg.constructor = optimizer.constructor
    changed.constructor = 'StudentOptimWrapperConstructor'
    found = rates(build_optim_wrapper(model, changed), model)
    own = {name for name in found if not name.startswith('student.')}
    assert {name.partition('.')[0] for name in own} == (
        {'pixel_contrast'} if contrast else set()
    )
    plain_rate = (optimizer.optimizer.lr, optimizer.optimizer.weight_decay)
    assert {found.pop(name) for name in own} <= {plain_rate}
    assert found == {f'student.{name}': value for name, value in expected.items()}


def test_without_a_constructor_all_weights_have_one_rate():
    model = stock_wrapper('mask_rcnn')
    optimizer = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1),
        constructor='StudentOptimWrapperConstructor',
    )
    wrapper = build_optim_wrapper(model, optimizer)
    (group,) = wrapper.optimizer.param_groups
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert trained <= {id(p) for p in group['params']}
    assert isinstance(wrapper.optimizer, torch.optim.SGD)
