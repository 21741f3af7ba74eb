"""Test SwinMTL's training: its steps, what its critic teaches, and mixed images."""

import pytest
import torch
from depth_scenes import batch, inputs, optimizers, samples, tiny_model, weights
from mmdet.registry import MODELS
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData

from mmcast.models import depth_seg_preprocessor
from mmcast.models.depth_seg_preprocessor import PasteMix

CRITIC = dict(type='WassersteinCritic', channels=4, init_std=0.1)


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

    @pytest.mark.parametrize('preset', ['default', 'research_code'])
    @pytest.mark.parametrize('task', ['depth', 'seg'])
    def test_single_task(self, task, preset):
        other = dict(depth='seg', seg='depth')[task]
        model = tiny_model(**{f'{other}_head': None, 'preset': preset})
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
