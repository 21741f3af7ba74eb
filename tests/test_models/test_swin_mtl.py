"""Test SwinMTL: sizes, prediction, and what its critic sees and teaches."""

import itertools

import pytest
import torch
from depth_scenes import WIDE, batch, optimizers, samples, tiny_model, weights
from mmdet.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from torch.nn import functional as F

from mmcast.models import depth_seg_preprocessor
from mmcast.models.dense_prediction import (
    predict_flipped,
    predict_windows,
    window_starts,
)
from mmcast.models.depth_seg_preprocessor import PasteMix
from mmcast.testing.reduced_configs import load_config

CRITIC = dict(type='WassersteinCritic', channels=4, init_std=0.1)


def lively_model(**changes):
    """Build a tiny model for tests whose untrained prediction varies over the image."""
    return tiny_model(**{**WIDE, **changes}).eval()


def inputs(count=2, size=(64, 64)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(3))


def assert_same_maps(found, wanted, **tolerances):
    assert list(found) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], **tolerances)
        assert wanted[name].std() > 1e-3 * wanted[name].abs().mean()


def test_published_number_of_weights():
    config = load_config('swinmtl/cityscapes', PRESET='research_code')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    count = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in model.named_children()
    }
    assert (count['decoder'], count['depth_head'], count['seg_head']) == (
        176_704,
        148_737,
        170_644,
    )
    assert sum(count.values()) - count['critic'] == 87_389_901
    assert count['critic'] == 2_773_698


class TestForward:
    @pytest.mark.parametrize('size', [(64, 64), (70, 90), (33, 127)])
    @pytest.mark.parametrize('head_stride', [1, 2, 4])
    def test_every_pixel_has_outputs(self, head_stride, size):
        model = tiny_model(head_stride=head_stride).eval()
        with torch.no_grad():
            found = model(inputs(2, size), mode='tensor')
        assert {name: maps.shape for name, maps in found.items()} == {
            'depth': (2, 1, *size),
            'seg': (2, 5, *size),
        }
        assert all(maps.dtype == torch.float32 for maps in found.values())

    @pytest.mark.parametrize(('head_stride', 'side'), [(1, 64), (2, 32), (4, 16)])
    def test_heads_run_at_their_stride(self, head_stride, side):
        model = tiny_model(head_stride=head_stride)
        assert model.extract_feat(inputs(1)).shape == (1, 16, side, side)

    def test_quarter_resolution_is_upsampled(self):
        model = lively_model(head_stride=4)
        images = inputs(1, (70, 90))
        with torch.no_grad():
            found = model(images, mode='tensor')
            coarse = model.seg_head.layers(model.decoder(model.backbone(images)))
        assert coarse.shape[-2:] == (24, 24)  # of 3x3 patches of 32 pixels
        whole = F.interpolate(coarse, (96, 96), mode='bilinear', align_corners=False)
        assert_same_maps(dict(seg=found['seg']), dict(seg=whole[..., :70, :90]))

    def test_decoder_map_is_doubled_twice_and_not_enlarged_at_once(self):
        model = lively_model(head_stride=1)
        with torch.no_grad():
            decoded = model.decoder(model.backbone(inputs()))
            twice = F.interpolate(decoded, scale_factor=2, mode='bilinear')
            twice = F.interpolate(twice, scale_factor=2, mode='bilinear')
            found = model.extract_feat(inputs())
        torch.testing.assert_close(found, twice)

    def test_first_depth_is_near_28_centimetres(self):
        with torch.no_grad():
            found = tiny_model().eval().predict_maps(inputs())['depth']
        torch.testing.assert_close(
            found, torch.full_like(found, 0.2828), rtol=1e-3, atol=0
        )

    @pytest.mark.parametrize('stride', [8, 3, 0])
    def test_bad_stride(self, stride):
        with pytest.raises(ValueError, match='give 1, 2 or 4'):
            tiny_model(head_stride=stride)

    def test_bad_configs(self):
        with pytest.raises(ValueError, match='no head: give depth_head, seg_head or'):
            tiny_model(depth_head=None, seg_head=None)
        with pytest.raises(ValueError, match="preset is 'author': choose one of"):
            tiny_model(preset='author')

    def test_preset_sets_what_the_config_does_not(self):
        model = tiny_model(
            preset='research_code',
            critic=dict(type='WassersteinCritic', channels=4, penalty_weight=1.0),
        )
        assert (model.depth_head.eps, model.depth_head.cap_targets) == (0, False)
        assert (model.critic.penalty_weight, model.soft) == (1, False)
        assert model.critic.layers[0].in_channels == 2
        assert model.critic.layers[-1].out_channels == 2
        assert tiny_model().critic.layers[0].in_channels == 1 + 5


class TestPredict:
    def test_padding_is_cut_and_the_image_gets_its_size_back(self, monkeypatch):
        """Predict ramps that are not a number in the padding."""
        model = tiny_model()
        shapes = [(64, 64), (48, 56), (40, 64)]
        originals = [(64, 64), (96, 112), (20, 32)]
        ramp = torch.arange(64.0).expand(3, 1, 64, 64).clone()
        for index, (height, width) in enumerate(shapes):
            ramp[index, :, height:] = torch.nan
            ramp[index, ..., width:] = torch.nan
        logits = torch.cat([ramp, 2 * ramp - 40.0], 1)  # the second wins beyond 40
        monkeypatch.setattr(
            model, 'predict_maps', lambda _: dict(depth=ramp, seg=logits)
        )
        for rescale in (False, True):
            given = samples(3)
            for sample, shape, original in zip(given, shapes, originals, strict=True):
                sample.set_metainfo(dict(img_shape=shape, ori_shape=original))
            found = model.predict(torch.zeros(3, 3, 64, 64), given, rescale=rescale)
            for sample, shape, original in zip(found, shapes, originals, strict=True):
                size = original if rescale else shape
                depth, labels = sample.pred_depth.depth, sample.pred_sem_seg.sem_seg
                assert depth.shape == labels.shape == (1, *size)
                assert (depth.dtype, labels.dtype) == (torch.float32, torch.int64)
                place = (torch.arange(size[1]) + 0.5) * shape[1] / size[1] - 0.5
                place = place.clamp(0, shape[1] - 1).expand(1, *size)
                torch.testing.assert_close(depth, place)
                assert torch.equal(labels, (place > 40).long())

    def test_batch_from_the_loader(self):
        """Pad images of two sizes, and predict each as if it were alone."""
        model = lively_model()
        data = batch(2)
        for index, size in enumerate([(64, 64), (64, 48)]):
            data['inputs'][index] = data['inputs'][index][:, : size[0], : size[1]]
            data['data_samples'][index].set_metainfo(
                dict(img_shape=size, ori_shape=size)
            )
        with torch.no_grad():
            found = model.val_step(data)
            assert found[1].pred_depth.depth.shape == (1, 64, 48)
            first = model.predict_maps(data['inputs'][0][None] / 255)
        torch.testing.assert_close(
            found[0].pred_depth.depth, first['depth'][0], rtol=1e-3, atol=0
        )
        labels = found[0].pred_sem_seg.sem_seg[0]
        assert (labels == first['seg'][0].argmax(0)).float().mean() > 0.99
        assert len(labels.unique()) > 2

    def test_depth_is_decoded_from_the_outputs(self):
        model = lively_model()
        with torch.no_grad():
            outputs = model(inputs(), mode='tensor')
            found = model.predict_maps(inputs())
        code = outputs['depth'].sigmoid()
        wanted = dict(depth=1e-3 * (80 / 1e-3) ** code, seg=outputs['seg'])
        assert_same_maps(found, wanted, rtol=1e-4, atol=1e-6)

    def test_only_the_first_classes(self):
        images, given = inputs(), samples()
        model = lively_model(test_cfg=dict(classes=3))
        whole = model(images, mode='tensor')['seg']
        assert (whole.argmax(1) >= 3).any()
        found = model.predict(images, given)
        labels = torch.stack([sample.pred_sem_seg.sem_seg for sample in found])
        assert torch.equal(labels[:, 0], whole[:, :3].argmax(1))

    @pytest.mark.parametrize('task', ['depth', 'seg'])
    def test_single_task(self, task):
        other = dict(depth='seg_head', seg='depth_head')[task]
        model = lively_model(**{other: None})
        found = model.predict(inputs(), samples())[0]
        assert ('pred_depth' in found) == (task == 'depth')
        assert ('pred_sem_seg' in found) == (task == 'seg')


class TestFlip:
    def test_is_the_average_by_hand(self):
        images, model = inputs(), lively_model()
        with torch.no_grad():
            plain, mirrored = (model.predict_maps(x) for x in (images, images.flip(-1)))
            model.test_cfg['flip'] = True
            found = model.predict_maps(images)
        wanted = {name: (plain[name] + mirrored[name].flip(-1)) / 2 for name in plain}
        assert_same_maps(found, wanted)
        assert not torch.allclose(found['depth'], plain['depth'], rtol=1e-3)

    def test_mirrored_image_gives_the_mirrored_prediction(self):
        model = lively_model(test_cfg=dict(flip=True))
        images = inputs(2, (64, 70))
        with torch.no_grad():
            found = model.predict_maps(images.flip(-1))
            wanted = model.predict_maps(images)
        assert_same_maps(found, {name: x.flip(-1) for name, x in wanted.items()})


def means(images):
    """Predict each window's mean, so that windows differ."""
    return dict(mean=images.mean((1, 2, 3), keepdim=True).expand_as(images[:, :1]))


def identity(images):
    return dict(same=images)


LENGTHS = itertools.product([1, 5, 16, 17, 31], [1, 4, 7, 16, 40], [1, 3, 4, 7, 40])


class TestWindows:
    @pytest.mark.parametrize(
        ('length', 'window', 'stride'),
        [sizes for sizes in LENGTHS if sizes[2] <= sizes[1]],
    )
    def test_every_pixel_is_covered_from_the_inside(self, length, window, stride):
        starts = window_starts(length, window, stride)
        covered = {x for at in starts for x in range(at, at + window)}
        assert covered >= set(range(length))
        assert starts == sorted(set(starts))
        assert all(0 <= at <= max(length - window, 0) for at in starts)
        assert all(b - a <= stride for a, b in itertools.pairwise(starts))

    def test_published_halves(self):
        assert window_starts(2048, 1024, 1024) == [0, 1024]
        assert window_starts(2048, 1024, 1024 // 15)[-1] == 1024  # no columns left over

    @pytest.mark.parametrize('stride', [0, -1, 5])
    def test_stride_that_leaves_gaps(self, stride):
        with pytest.raises(ValueError, match=f'stride .*{stride}.* window'):
            window_starts(16, 4, stride)

    @pytest.mark.parametrize('stride', [(5, 7), (3, 7), (2, 1)])
    def test_function_of_the_pixel_is_unchanged(self, stride):
        images = inputs(2, (13, 18))
        found = predict_windows(identity, images, (5, 7), stride)
        torch.testing.assert_close(found['same'], images)
        ones = torch.ones(1, 3, 13, 18)
        assert torch.equal(
            predict_windows(identity, ones, (5, 7), stride)['same'], ones
        )

    def test_average_over_the_windows_of_a_pixel(self):
        images = torch.arange(6.0).expand(1, 3, 1, 6)
        found = predict_windows(means, images, (1, 4), (1, 1))['mean']
        # The windows' means are 1.5, 2.5 and 3.5.
        wanted = torch.tensor([1.5, 2, 2.5, 2.5, 3, 3.5])
        torch.testing.assert_close(found, wanted.view(1, 1, 1, 6))

    @pytest.mark.parametrize('window', [(64, 70), (128, 128), (64, 1000)])
    def test_window_of_the_whole_image_changes_nothing(self, window):
        images = inputs(2, (64, 70))
        model = lively_model()
        with torch.no_grad():
            wanted = model.predict_maps(images)
            model.test_cfg.update(window=window)
            found = model.predict_maps(images)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    def test_halves_are_predicted_apart_and_mirrored(self):
        images = inputs(1, (64, 128))
        model = lively_model()
        with torch.no_grad():
            parts = [
                predict_flipped(model.predict_maps, half)
                for half in images.split(64, 3)
            ]
            model.test_cfg.update(window=(64, 64), flip=True)
            found = model.predict_maps(images)
        wanted = {name: torch.cat([part[name] for part in parts], -1) for name in found}
        assert_same_maps(found, wanted)


def step(model, data=None, **optimizer_changes):
    """Train one step; return the log and the optimisers."""
    both = optimizers(model, **optimizer_changes)
    return model.train().train_step(data or batch(), both), both


def spy(target, name, monkeypatch, before=None):
    """Record the arguments of a method's calls."""
    calls, method = [], getattr(target, name)

    def record(*arguments, **options):
        calls.append(arguments)
        if before:
            before(*arguments)
        return method(*arguments, **options)

    monkeypatch.setattr(target, name, record)
    return calls


def changed(before, module):
    return {
        name for name, value in weights(module).items() if (value != before[name]).any()
    }


class TestTraining:
    def test_step_changes_model_and_critic(self):
        model = tiny_model(critic=CRITIC)
        before = weights(model)
        log, _ = step(model)
        moved = changed(before, model)
        parts = {name.split('.')[0] for name in moved}
        assert parts == {'backbone', 'decoder', 'depth_head', 'seg_head', 'critic'}
        assert list(log) == [
            'loss',
            'loss_depth',
            'loss_seg',
            'loss_adversarial',
            'critic_loss',
            'critic_distance',
            'critic_penalty',
        ]
        total = log['loss_depth'] + log['loss_seg'] + log['loss_adversarial']
        torch.testing.assert_close(log['loss'], total)

    def test_each_step_has_gradients_of_its_own_part_alone(self, monkeypatch):
        model = tiny_model(critic=CRITIC)
        both, seen = optimizers(model), {}
        for name, wrapper in both.items():

            def look(*_, name=name):
                seen[name] = {
                    weight.split('.')[0]
                    for weight, p in model.named_parameters()
                    if p.grad is not None
                }

            spy(wrapper, 'step', monkeypatch, before=look)
        model.train().train_step(batch(), both)
        assert list(seen) == ['critic', 'model']
        assert seen['critic'] == {'critic'}
        assert seen['model'] == {'backbone', 'decoder', 'depth_head', 'seg_head'}
        assert all(p.grad is None and p.requires_grad for p in model.parameters())

    @pytest.mark.parametrize('weight', [0.1, 2.0])
    def test_model_gets_the_score_of_the_critic_after_its_step(
        self, weight, monkeypatch
    ):
        model = tiny_model(critic=CRITIC, adversarial_weight=weight)
        seen = spy(model.critic, 'forward', monkeypatch)
        before = weights(model.critic)
        log, _ = step(model, critic_optimizer=dict(type='SGD', lr=1.0))
        (fake, _), *rest = seen
        assert not rest
        assert not fake.requires_grad
        found = float(log['loss_adversarial'].detach())
        with torch.no_grad():
            after = -weight * model.critic.score(fake).mean()
            model.critic.load_state_dict(before)
            old = -weight * model.critic.score(fake).mean()
        assert found == pytest.approx(float(after), rel=1e-5)
        assert found != pytest.approx(float(old), rel=1e-3)

    def test_steps_raise_the_score_of_the_maps(self):
        """Train by the critic's score alone, and the critic not at all.

        Not with the preset of the research code: its critic sees the likeliest labels,
        which jump, and the score with them.
        """
        model = tiny_model(critic=CRITIC, adversarial_weight=1.0)
        model.depth_head.loss_weight = model.seg_head.loss_weight = 0.0
        model.backbone.eval()
        both = optimizers(
            model,
            optimizer=dict(type='Adam', lr=0.01, weight_decay=0.0),
            critic_optimizer=dict(type='SGD', lr=0.0),
        )
        scores = [
            -float(model.train_step(batch(), both)['loss_adversarial'].detach())
            for _ in range(10)
        ]
        assert scores[-1] > scores[0]

    def adversarial_gradients(self, model, monkeypatch):
        both = optimizers(model)
        parse = model.parse_losses
        monkeypatch.setattr(
            model,
            'parse_losses',
            lambda losses: parse({'loss_adversarial': losses['loss_adversarial']}),
        )
        monkeypatch.setattr(
            both['model'], 'update_params', lambda loss: loss.backward()
        )
        model.train().train_step(batch(), both)
        return {
            name: [p.grad for p in getattr(model, name).parameters()]
            for name in ('backbone', 'depth_head', 'seg_head', 'critic')
        }

    def test_critic_teaches_both_tasks(self, monkeypatch):
        found = self.adversarial_gradients(tiny_model(critic=CRITIC), monkeypatch)
        for name in ('depth_head', 'seg_head'):
            assert all(grad.any() for grad in found[name]), name
        assert all(grad is None for grad in found['critic'])

    def test_critic_of_the_research_code_teaches_depth_alone(self, monkeypatch):
        model = tiny_model(critic=CRITIC, preset='research_code')
        found = self.adversarial_gradients(model, monkeypatch)
        assert all(grad.any() for grad in found['depth_head'])
        assert all(grad is None for grad in found['seg_head'])
        assert all(grad is None for grad in found['critic'])

    def test_without_a_critic(self):
        model = tiny_model(critic=None)
        before = weights(model)
        log, both = step(model, critic_optimizer=None)
        assert list(both.keys()) == ['model']
        assert list(log) == ['loss', 'loss_depth', 'loss_seg']
        assert {name.split('.')[0] for name in changed(before, model)} == {
            'backbone',
            'decoder',
            'depth_head',
            'seg_head',
        }

    @pytest.mark.parametrize('task', ['depth', 'seg'])
    def test_single_task(self, task):
        other = dict(depth='seg', seg='depth')[task]
        model = tiny_model(**{f'{other}_head': None})
        data = batch()
        for sample in data['data_samples']:
            delattr(sample, 'gt_sem_seg' if task == 'depth' else 'gt_depth')
        before = weights(model)
        log, _ = step(model, data)
        assert f'loss_{task}' in log
        assert f'loss_{other}' not in log
        assert {'critic', f'{task}_head'} <= {
            name.split('.')[0] for name in changed(before, model)
        }

    @pytest.mark.parametrize(
        ('field', 'message'),
        [
            (
                'gt_depth',
                'no gt_depth: its pipeline needs LoadDepth .* depth_head=None',
            ),
            ('gt_sem_seg', r'no gt_sem_seg: .*LoadAnnotations.* seg_head=None'),
        ],
    )
    def test_missing_truth(self, field, message):
        data = batch()
        delattr(data['data_samples'][1], field)
        with pytest.raises(ValueError, match=message):
            step(tiny_model(), data)
        with pytest.raises(ValueError, match=message):
            tiny_model().loss(inputs(), data['data_samples'])

    def test_one_optimiser_is_refused(self):
        model = tiny_model()
        one = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        with pytest.raises(ValueError, match="constructor='CriticOptimWrapperConstr"):
            model.train_step(batch(), one)

    def test_losses_are_those_of_the_heads(self):
        model = tiny_model().eval()
        data = model.data_preprocessor(batch(), training=True)
        found = model(**data, mode='loss')
        outputs = model(data['inputs'], mode='tensor')
        depth, labels = (
            torch.stack([sample.get(field).get(key) for sample in data['data_samples']])
            for field, key in (('gt_depth', 'depth'), ('gt_sem_seg', 'sem_seg'))
        )
        assert found == {
            **model.depth_head.loss(outputs['depth'], depth),
            **model.seg_head.loss(outputs['seg'], labels),
        }

    def test_batch_without_any_truth_leaves_the_heads_alone(self):
        model = tiny_model(critic=None)
        data = batch()
        for sample in data['data_samples']:
            sample.gt_depth.depth.zero_()
            sample.gt_sem_seg.sem_seg.fill_(255)
        before = weights(model)
        log, _ = step(model, data, critic_optimizer=None)
        assert log['loss'] == 0
        assert not changed(before, model)


class TestCriticMaps:
    def maps(self, model, data):
        targets = model._targets(data['data_samples'])
        g = torch.Generator().manual_seed(8)
        outputs = dict(
            depth=torch.randn(2, 1, 64, 64, generator=g),
            seg=torch.randn(2, 5, 64, 64, generator=g),
        )
        return outputs, targets, model._critic_maps(outputs, targets)

    def test_closed_form(self):
        outputs, targets, (fake, real) = self.maps(tiny_model(), batch())
        depth, labels = targets['depth'], targets['seg']
        measured = (depth > 0) & (depth < 80)
        assert 0.5 < measured.float().mean() < 0.9
        code = (depth / 1e-3).log() / torch.tensor(80 / 1e-3).log()
        zero = torch.zeros(())
        torch.testing.assert_close(real[:, :1], torch.where(measured, code, zero))
        torch.testing.assert_close(
            fake[:, :1], torch.where(measured, outputs['depth'].sigmoid(), zero)
        )
        known = labels != 255
        shown = [(labels == index).float() for index in range(5)]
        assert torch.equal(real[:, 1:], torch.cat(shown, 1))
        torch.testing.assert_close(
            fake[:, 1:], torch.where(known, outputs['seg'].softmax(1), zero)
        )

    @pytest.mark.parametrize('preset', ['default', 'research_code'])
    def test_holes_do_not_reach_the_critic(self, preset):
        """Change, where there is no truth, what is there and what is predicted."""
        model, data = tiny_model(preset=preset), batch()
        outputs, targets, before = self.maps(model, data)
        depth, labels = targets['depth'], targets['seg']
        holes, other = depth <= 0, torch.tensor(-7.0)
        if preset == 'default':
            holes, other = holes | (depth >= 80), torch.tensor(500.0)
        changed = dict(targets, depth=torch.where(holes, other, depth))
        assert not torch.equal(changed['depth'], depth)
        outputs = dict(
            depth=torch.where(holes, outputs['depth'] + 3, outputs['depth']),
            seg=torch.where(labels == 255, outputs['seg'].flip(1), outputs['seg']),
        )
        for found, wanted in zip(
            model._critic_maps(outputs, changed), before, strict=True
        ):
            assert torch.equal(found, wanted)
            assert (wanted[:, :1][holes] == 0).all()
            assert (wanted[:, 1:] * (labels == 255) == 0).all()

    def test_research_code_sees_metres_and_class_numbers(self):
        model = tiny_model(preset='research_code')
        outputs, targets, (fake, real) = self.maps(model, batch())
        depth, labels = targets['depth'], targets['seg']
        known, zero = labels != 255, torch.zeros(())
        assert (depth > 80).any()
        assert torch.equal(real[:, :1], depth)  # no measurement is 0
        assert torch.equal(real[:, 1:], torch.where(known, labels.float(), zero))
        metres = 1e-3 * (80 / 1e-3) ** outputs['depth'].sigmoid()
        torch.testing.assert_close(fake[:, :1], torch.where(depth > 0, metres, zero))
        best = outputs['seg'].argmax(1, keepdim=True).float()
        assert torch.equal(fake[:, 1:], torch.where(known, best, zero))


class TestPreprocessor:
    def test_pads_labels_with_255_and_depth_with_0(self):
        sizes = [(64, 48), (40, 64)]
        data = dict(
            inputs=[torch.full((3, *size), 255, dtype=torch.uint8) for size in sizes],
            data_samples=[samples(1, size)[0] for size in sizes],
        )
        given = [(x.gt_depth.depth, x.gt_sem_seg.sem_seg) for x in data['data_samples']]
        found = tiny_model().data_preprocessor(data, training=True)
        assert found['inputs'].shape == (2, 3, 64, 64)
        for index, (height, width) in enumerate(sizes):
            sample, image = found['data_samples'][index], found['inputs'][index]
            assert (image[:, :height, :width] == 1).all()
            assert image.sum() == 3 * height * width
            for maps, before, padding in (
                (sample.gt_depth.depth, given[index][0], 0),
                (sample.gt_sem_seg.sem_seg, given[index][1], 255),
            ):
                assert maps.shape == (1, 64, 64)
                assert maps.dtype == before.dtype
                assert torch.equal(maps[:, :height, :width], before)
                outside = torch.ones(64, 64, dtype=torch.bool)
                outside[:height, :width] = False
                assert (maps[0, outside] == padding).all()

    def test_pads_to_a_multiple(self):
        preprocessor = MODELS.build(
            dict(type='DepthSegDataPreprocessor', pad_size_divisor=32)
        )
        data = dict(inputs=[torch.zeros(3, 33, 40)], data_samples=samples(1, (33, 40)))
        (sample,) = preprocessor(data, training=True)['data_samples']
        assert sample.gt_depth.depth.shape == sample.gt_sem_seg.sem_seg.shape
        assert sample.gt_depth.depth.shape == (1, 64, 64)

    @pytest.mark.parametrize('field', ['gt_depth', 'gt_sem_seg'])
    def test_pads_what_there_is(self, field):
        data = batch()
        for sample in data['data_samples']:
            delattr(sample, field)
        data['inputs'][0] = torch.zeros(3, 64, 80, dtype=torch.uint8)
        found = tiny_model().data_preprocessor(data, training=True)['data_samples'][1]
        assert field not in found
        kept = {'gt_depth': 'gt_sem_seg', 'gt_sem_seg': 'gt_depth'}[field]
        assert found.get(kept).shape == (64, 80)

    def test_truth_is_not_padded_for_evaluation(self):
        data = batch(1, (33, 40))
        (sample,) = tiny_model().data_preprocessor(data)['data_samples']
        assert sample.gt_depth.depth.shape == (1, 33, 40)


HEIGHT, WIDTH = 64, 80


def coded(count=4, fields=('gt_depth', 'gt_sem_seg')):
    """Build a batch whose images and maps say, pixel by pixel, where they are."""
    rows, columns = torch.meshgrid(
        torch.arange(HEIGHT), torch.arange(WIDTH), indexing='ij'
    )
    images = torch.stack(
        [torch.stack([torch.full_like(rows, i), rows, columns]) for i in range(count)]
    ).float()
    found = samples(count, (HEIGHT, WIDTH))
    for index, sample in enumerate(found):
        place = ((index * HEIGHT + rows) * WIDTH + columns)[None]
        del sample.gt_depth, sample.gt_sem_seg
        if 'gt_depth' in fields:
            sample.gt_depth = PixelData(depth=place.float())
        if 'gt_sem_seg' in fields:
            sample.gt_sem_seg = PixelData(sem_seg=place)
    return images, found


def sources(images):
    """Return which image each pixel of a mixed batch comes from, int64 (N, H, W)."""
    return images[:, 0].long()


class TestPasteMix:
    @pytest.mark.parametrize(
        'fields', [('gt_depth', 'gt_sem_seg'), ('gt_depth',), ('gt_sem_seg',)]
    )
    def test_image_labels_and_depth_stay_aligned(self, fields):
        images, given = coded(fields=fields)
        mixed, found = PasteMix()(images, given)
        # A pixel comes from another image, but from its own place.
        assert torch.equal(mixed[:, 1:], images[:, 1:])
        place = (mixed[:, 0] * HEIGHT + mixed[:, 1]) * WIDTH + mixed[:, 2]
        assert not torch.equal(sources(mixed), sources(images))
        for index, sample in enumerate(found):
            if 'gt_depth' in fields:
                assert torch.equal(sample.gt_depth.depth[0], place[index])
            if 'gt_sem_seg' in fields:
                assert torch.equal(sample.gt_sem_seg.sem_seg[0], place[index].long())
            assert ('gt_depth' in sample) == ('gt_depth' in fields)
            assert ('gt_sem_seg' in sample) == ('gt_sem_seg' in fields)

    def test_inputs_are_not_changed_in_place(self):
        images, given = coded()
        maps = [(x.gt_depth.depth, x.gt_sem_seg.sem_seg) for x in given]
        PasteMix()(images, given)
        again, fresh = coded()
        assert torch.equal(images, again)
        for (depth, labels), sample in zip(maps, fresh, strict=True):
            assert torch.equal(depth, sample.gt_depth.depth)
            assert torch.equal(labels, sample.gt_sem_seg.sem_seg)

    def test_each_image_has_one_partner_by_a_permutation(self):
        seen = set()
        mix = PasteMix(boxes=(3, 3))
        images, given = coded()
        for _ in range(60):
            mixed = sources(mix(images, given)[0])
            partners = []
            for index, one in enumerate(mixed):
                others = set(one.unique().tolist()) - {index}
                assert len(others) <= 1
                partners.append(others.pop() if others else index)
            assert sorted(partners) == [0, 1, 2, 3]
            seen.add(tuple(partners))
        assert len(seen) > 10
        assert any(all(p != i for i, p in enumerate(one)) for one in seen)

    def test_sides_and_places_of_squares(self):
        """Paste one square at a time; those at the edge are cut off."""
        mix = PasteMix(boxes=(1, 1))
        images, given = coded(2)
        sides, tops, lefts = [], [], []
        for _ in range(800):
            pasted = sources(mix(images, given)[0])[0] == 1
            if not pasted.any():  # its own partner
                continue
            rows, columns = pasted.any(1).nonzero(), pasted.any(0).nonzero()
            (top, bottom), (left, right) = (
                (int(x.min()), int(x.max()) + 1) for x in (rows, columns)
            )
            assert pasted[top:bottom, left:right].all()
            height, width = bottom - top, right - left
            assert height == width or bottom == HEIGHT or right == WIDTH
            tops.append(top)
            lefts.append(left)
            if bottom < HEIGHT and right < WIDTH:
                sides.append(height)
            else:
                assert max(height, width) < HEIGHT // 2
        assert (min(sides), max(sides)) == (HEIGHT // 8, HEIGHT // 2 - 1)
        assert (min(tops), min(lefts)) == (0, 0)
        assert max(tops) > HEIGHT - 4
        assert max(lefts) > WIDTH - 4

    @pytest.mark.parametrize('boxes', [(1, 4), (2, 3)])
    def test_number_of_squares(self, boxes, monkeypatch):
        """Paste squares of one pixel, which seldom hit each other or the edge."""
        monkeypatch.setattr(depth_seg_preprocessor, 'SIDE', (1 / HEIGHT, 1 / HEIGHT))
        mix = PasteMix(boxes=boxes)
        images, given = coded(2)
        counts = [
            int((sources(mix(images, given)[0])[0] == 1).sum()) for _ in range(300)
        ]
        counts = [count for count in counts if count]
        least, most = boxes
        assert max(counts) == most
        for count in range(least, most + 1):
            share = counts.count(count) / len(counts)
            assert share == pytest.approx(1 / (most - least + 1), abs=0.12)

    def test_batch_of_one_image(self):
        images, given = coded(1)
        with pytest.raises(
            ValueError, match=r'batch of 1 image: .*batch_augments=None'
        ):
            PasteMix(prob=0.5)(images, given)
        mixed, found = PasteMix(prob=0.0)(images, given)
        assert torch.equal(mixed, coded(1)[0])
        assert found is given

    @pytest.mark.parametrize('prob', [0.0, 0.5, 1.0])
    def test_probability(self, prob):
        images, given = coded()
        mix = PasteMix(prob=prob, boxes=(9, 9))
        mixed = [mix(images, given)[0] is not images for _ in range(200)]
        assert sum(mixed) / 200 == pytest.approx(prob, abs=0.15 * (prob == 0.5))

    @pytest.mark.parametrize('field', ['gt_depth', 'gt_sem_seg'])
    def test_samples_without_a_map(self, field):
        images, given = coded()
        delattr(given[2], field)
        with pytest.raises(ValueError, match=f'3 of 4 samples have {field}'):
            PasteMix()(images, given)

    def test_preprocessor_mixes_after_padding_and_only_in_training(self):
        preprocessor = MODELS.build(
            dict(
                type='DepthSegDataPreprocessor',
                batch_augments=[dict(type='PasteMix', boxes=(9, 9))],
            )
        )
        given = [samples(1, size)[0] for size in ((64, 48), (40, 64))]
        data = dict(inputs=[torch.rand(3, 64, 48), torch.rand(3, 40, 64)])
        plain = preprocessor(dict(data, data_samples=given))
        torch.manual_seed(1)
        mixed = preprocessor(dict(data, data_samples=given), training=True)
        assert mixed['inputs'].shape == plain['inputs'].shape
        assert not torch.equal(mixed['inputs'], plain['inputs'])
        for sample in mixed['data_samples']:
            assert sample.gt_depth.shape == sample.gt_sem_seg.shape == (64, 64)
