"""Test SwinMTL's optimisers and their schedule."""

import copy

import pytest
import torch
from depth_scenes import (
    ARCH,
    optimizers,
    rise_and_fall,
    tiny_model,
)
from mmdet.registry import PARAM_SCHEDULERS

from mmcast.engine.optimizers import CriticOptimWrapperConstructor
from mmcast.testing.reduced_configs import load_config


def published(**changes):
    """Return the published optimisers' config, without its constructor."""
    config = load_config('swinmtl/cityscapes').optim_wrapper
    return {
        name: value for name, value in config.items() if name != 'constructor'
    } | changes


def build(model, **changes):
    """Build the published optimisers of a model."""
    config = published(**changes)
    paramwise = config.pop('paramwise_cfg')
    return CriticOptimWrapperConstructor(config, paramwise)(model)


class TestConstructor:
    def test_every_weight_has_one_optimiser(self):
        model = tiny_model()
        both = build(model)
        assert list(both.keys()) == ['model', 'critic']
        groups = both['model'].optimizer.param_groups
        found = [p for group in groups for p in group['params']]
        names = {id(p): name for name, p in model.named_parameters()}
        wanted = [name for name in names.values() if not name.startswith('critic.')]
        # mmengine adds a group without weights.
        assert sorted(names[id(p)] for p in found if id(p) in names) == sorted(wanted)
        (group,) = both['critic'].optimizer.param_groups
        assert [id(p) for p in group['params']] == [
            id(p) for p in model.critic.parameters()
        ]
        assert len(wanted) + len(group['params']) == len(names)

    def test_published_settings(self):
        both = build(tiny_model())
        model, critic = both['model'].optimizer, both['critic'].optimizer
        assert (type(model), type(critic)) == (torch.optim.AdamW, torch.optim.Adam)
        assert (critic.defaults['lr'], critic.defaults['weight_decay']) == (1e-4, 1e-4)
        assert (model.defaults['lr'], model.defaults['weight_decay']) == (5e-4, 0.05)
        assert model.defaults['betas'] == critic.defaults['betas'] == (0.9, 0.999)

    def test_published_scales_of_layers(self):
        """Compare the published table for a backbone of 2, 2, 18 and 2 blocks."""
        backbone = dict(
            type='SwinV2',
            arch={**ARCH, 'depths': [2, 2, 18, 2]},
            window_size=[4, 4, 4, 2],
            pretrained_window_sizes=[0, 0, 0, 0],
        )
        both = build(tiny_model(backbone=backbone))
        scale = {
            group['param_name']: group['lr'] / 5e-4
            for group in both['model'].optimizer.param_groups
            if 'param_name' in group
        }
        stage, block = 'backbone.stages.{}.', 'backbone.stages.{}.blocks.{}.'
        for prefix, wanted in {
            'backbone.patch_embed.': 0.0523,
            block.format(0, 0): 0.058,
            block.format(0, 1): 0.065,
            stage.format(1) + 'downsample.': 0.072,
            block.format(1, 0): 0.080,
            block.format(1, 1): 0.089,
            stage.format(2) + 'downsample.': 0.098,
            block.format(2, 0): 0.109,
            block.format(2, 17): 0.656,
            stage.format(3) + 'downsample.': 0.729,
            block.format(3, 0): 0.81,
            block.format(3, 1): 0.90,
            'backbone.norm3.': 1,
            'decoder.': 1,
            'depth_head.': 1,
            'seg_head.': 1,
        }.items():
            found = {scale.pop(name) for name in [*scale] if name.startswith(prefix)}
            assert [*found] == [pytest.approx(wanted, abs=6e-4)], prefix
        left = {name.rsplit('.blocks.')[0] for name in scale}
        assert left == {'backbone.stages.2'}
        assert len(set(scale.values())) == 16

    def test_which_weights_decay(self):
        model = tiny_model()
        shapes = {name: p.ndim for name, p in model.named_parameters()}
        seen = set()
        for group in build(model)['model'].optimizer.param_groups:
            name = group.get('param_name')
            if name is not None:
                free = (
                    shapes[name] == 1
                    or name.endswith('bias')
                    or 'logit_scale' in name
                    or 'cpb_mlp' in name
                )
                assert group['weight_decay'] == (0 if free else 0.05), name
                seen.add((free, shapes[name]))
        assert seen >= {(True, 1), (True, 2), (True, 3), (False, 2), (False, 4)}

    def test_without_layer_decay(self):
        both = optimizers(
            tiny_model(), optimizer=dict(type='SGD', lr=0.1, weight_decay=1)
        )
        groups = both['model'].optimizer.param_groups
        assert {group['lr'] for group in groups} == {0.1}
        assert {group['weight_decay'] for group in groups} == {1}

    def test_frozen_weights_have_no_optimiser(self):
        model = tiny_model()
        model.backbone.patch_embed.requires_grad_(False)
        names = [g.get('param_name') for g in build(model)['model'].param_groups]
        assert 'backbone.stages.0.blocks.0.norm1.weight' in names
        assert not any('patch_embed' in str(name) for name in names)

    def test_model_without_a_critic(self):
        assert list(build(tiny_model(critic=None)).keys()) == ['model']
        both = build(tiny_model(critic=None), critic_optimizer=None)
        assert list(both.keys()) == ['model']

    def test_critic_without_an_optimiser(self):
        with pytest.raises(
            ValueError, match=r'give optim_wrapper.critic_optimizer, or'
        ):
            build(tiny_model(), critic_optimizer=None)

    @pytest.mark.parametrize('key', ['lr', 'weight_decay'])
    def test_setting_that_layer_decay_needs(self, key):
        optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.0)
        del optimizer[key]
        with pytest.raises(ValueError, match=f'optimizer has no {key}'):
            build(tiny_model(), optimizer=optimizer)

    def test_settings_of_the_wrapper_are_shared_but_for_clipping(self):
        both = build(tiny_model(), accumulative_counts=3, clip_grad=dict(max_norm=0.5))
        assert [wrapper._accumulative_counts for wrapper in both.values()] == [3, 3]
        assert both['model'].clip_grad_kwargs == dict(max_norm=0.5)
        assert both['critic'].clip_grad_kwargs is None

    def test_config_is_not_changed(self):
        config = published(clip_grad=dict(max_norm=0.5))
        paramwise = config.pop('paramwise_cfg')
        before = copy.deepcopy((config, paramwise))
        CriticOptimWrapperConstructor(config, paramwise)(tiny_model())
        assert (config, paramwise) == before


def schedule(total_iters, rates=(5e-4,)):
    """Build the schedule as a runner does, which gives ``end``."""
    optimizer = torch.optim.SGD(
        [dict(params=[torch.zeros(1)], lr=rate) for rate in rates]
    )
    config = dict(type='RiseAndFallLR', by_epoch=False, end=total_iters)
    return optimizer, PARAM_SCHEDULERS.build(
        config, default_args=dict(optimizer=optimizer)
    )


class TestRiseAndFallLR:
    @pytest.mark.parametrize(
        ('epoch', 'rate'),
        [
            (0, 3e-5),
            (1, 3.7e-5),
            (25, 1.65e-4),
            (50, 2.8e-4),
            (100, 5e-4),
            (150, 2.5e-4),
            (200, 3e-5),
        ],
    )
    def test_published_rates(self, epoch, rate):
        total = load_config('swinmtl/cityscapes').train_cfg.max_iters
        assert total == 200 * 743
        optimizer, scheduler = schedule(total)
        if epoch:
            scheduler.last_step = epoch * 743 - 1
            scheduler.step()
        found = optimizer.param_groups[0]['lr']
        assert found == pytest.approx(rate, rel=0.02)
        assert found == pytest.approx(rise_and_fall(epoch * 743, total))

    @pytest.mark.parametrize('total', [1, 2, 9, 20])
    def test_every_step_of_every_group(self, total):
        """Step beyond the end as well."""
        rates = (5e-4, 5e-4 * 0.9, 5e-4 * 0.0523)
        optimizer, scheduler = schedule(total, rates)
        for step in range(205):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                wanted = rise_and_fall(step, max(total, 2)) * rate / 5e-4
                assert group['lr'] == pytest.approx(wanted), step
            optimizer.step()
            scheduler.step()

    def test_epochs_are_refused(self):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        config = dict(type='RiseAndFallLR', end=200)
        with pytest.raises(ValueError, match='give by_epoch=False'):
            PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=optimizer))

    def test_resumes(self):
        optimizer, scheduler = schedule(20)
        for _ in range(7):
            optimizer.step()
            scheduler.step()
        again, resumed = schedule(20)
        again.load_state_dict(optimizer.state_dict())
        resumed.load_state_dict(scheduler.state_dict())
        for one, other in ((optimizer, scheduler), (again, resumed)):
            one.step()
            other.step()
        assert again.param_groups[0]['lr'] == optimizer.param_groups[0]['lr']
        assert again.param_groups[0]['lr'] == pytest.approx(rise_and_fall(8, 20))
