"""Published numbers that no other test would notice: they are only values."""

import inspect

import pytest

from mmcast.models.detectors import SwinMTL
from mmcast.models.losses import PRESETS, PixelContrastLoss
from mmcast.models.views import StrongView
from mmcast.testing import load_config

TEACHER = dict(lr=5e-5, weight_decay=0.01, clip=0.1)
PUBLISHED = {
    'distill_cityscapes': dict(lr=5e-5, weight_decay=0.1, clip=0.01, iters=90000),
    'distill_ade20k': dict(lr=1e-4, weight_decay=0.05, clip=0.01, iters=160000),
    'adapt_cityscapes': dict(TEACHER, milestones=[700, 900], iters=1000),
    'selftrain_cityscapes': dict(TEACHER, milestones=[6000, 9000], iters=10000),
    'adapt_ade20k': dict(TEACHER, milestones=[2000, 2500], iters=3000),
    'adapt_sam2_cityscapes': dict(lr=5e-6, weight_decay=1e-4, iters=15000),
    'guided_distillation/distill_cityscapes': dict(
        lr=1e-4, weight_decay=0.05, clip=0.01, iters=90000
    ),
    'guided_distillation/distill_coco': dict(
        lr=1e-4, weight_decay=0.05, clip=0.01, iters=368750
    ),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_schedule(name):
    config = load_config(name)
    wrapper, schedule = config.optim_wrapper, config.param_scheduler
    found = dict(
        lr=wrapper.optimizer.lr,
        weight_decay=wrapper.optimizer.weight_decay,
        iters=config.train_cfg.max_iters,
        clip=(wrapper.get('clip_grad') or {}).get('max_norm'),
        milestones=schedule.get('milestones'),
    )
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]


def test_guided_distillation():
    config = load_config('guided_distillation/distill_cityscapes')
    update, model = config.default_hooks.teacher_update, config.model
    assert (update.burn_in_iters, update.momentum) == (50000, 0.9996)
    assert model.semi_weight == 2
    assert model.query_rule == dict(score_thr=0.7, min_area=5)
    view = model.strong_view
    assert (view.jitter_prob, view.grayscale_prob, view.blur_prob) == (0.8, 0.2, 0.5)


def test_contrast_of_the_research_code():
    loss = PixelContrastLoss(**PRESETS['research_code'])
    assert (loss.num_negatives, loss.score_floor, loss.margin) == (200, 1e-6, 0.5)
    assert PRESETS['research_code']['temperature'] == dict(
        start=0.3, end=0.07, iters=90000
    )
    assert load_config('distill_cityscapes').model.student.pixel_contrast.loss == dict(
        type='PixelContrastLoss', loss_weight=0.1
    )


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters}


def test_defaults():
    view = defaults(StrongView)
    names = 'brightness', 'contrast', 'saturation', 'hue'
    assert tuple(view[name] for name in names) == (0.4, 0.4, 0.4, 0.1)
    names = 'jitter_prob', 'grayscale_prob', 'blur_prob', 'blur_sigma'
    assert tuple(view[name] for name in names) == (1.0, 0.2, 1.0, (0.1, 2.0))
    assert defaults(SwinMTL)['adversarial_weight'] == 0.1
