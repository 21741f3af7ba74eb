"""Test SwinMTL's training: accumulation, and a real Runner."""

import copy
import math

import pytest
import torch
from depth_scenes import (
    WIDE,
    batch,
    optimizers,
    rise_and_fall,
    samples,
    small_config,
    tiny_model,
    weights,
)
from gloo_ranks import two_ranks
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmengine.model import MMSeparateDistributedDataParallel
from mmengine.runner import Runner
from resuming import assert_identical, assert_same_end, train_until

from mmcast.checkpoints import read_checkpoint
from mmcast.models.unwrapped import unwrapped
from mmcast.testing.reduced_configs import load_config

CRITIC = dict(type='WassersteinCritic', channels=4, init_std=0.1)
PROBES = ('decoder.layers.0.weight', 'critic.layers.0.weight')


class TestAccumulation:
    def test_two_batches_equal_one_of_double_size(self):
        """Compare where they must agree: without norms of a batch, noise and holes.

        The model's part of the critic's score is left out: within one step it comes
        from the critic before its step for one half and after it for the other.
        """

        def train(images, given, parts):
            torch.manual_seed(0)
            model = tiny_model(
                **{**WIDE, 'depth_head': None}, critic=CRITIC, adversarial_weight=0.0
            )
            model.eval()  # batch norm and stochastic depth
            both = optimizers(model, accumulative_counts=parts)
            torch.manual_seed(1)
            size = max(len(images) // parts, 1)
            for i in range(0, len(images), size):
                part = slice(i, i + size)
                data = dict(inputs=images[part], data_samples=given[part])
                model.train_step(copy.deepcopy(data), both)
            return weights(model)

        images, given = batch(4)['inputs'], samples(4)
        for sample in given:
            sample.gt_sem_seg.sem_seg.clamp_(max=4)
        whole, halves = train(images, given, 1), train(images, given, 2)
        start = train([], [], 1)
        for name, value in whole.items():
            torch.testing.assert_close(halves[name], value, rtol=1e-4, atol=1e-6)
        for name in PROBES:
            moved = (whole[name] - start[name]).abs().max()
            assert moved > 100 * (whole[name] - halves[name]).abs().max()

    @pytest.mark.parametrize('start', [0, 2])
    def test_both_step_together_and_at_the_end(self, start, monkeypatch):
        model = tiny_model(critic=CRITIC)
        both = optimizers(model, accumulative_counts=2)
        both.initialize_count_status(model, start, 5)
        steps = dict(model=[], critic=[])
        for name, wrapper in both.items():
            step = wrapper.optimizer.step

            def record(*arguments, name=name, step=step):
                steps[name].append(iteration)
                return step(*arguments)

            monkeypatch.setattr(wrapper.optimizer, 'step', record)
        for iteration in range(start, 5):
            before = weights(model)
            model.train().train_step(batch(), both)
            moved = {
                name.split('.')[0]
                for name, value in weights(model).items()
                if not torch.equal(value, before[name])
            }
            parts = {'backbone', 'decoder', 'depth_head', 'seg_head', 'critic'}
            assert moved == (parts if iteration in (1, 3, 4) else set())
        wanted = [at for at in (1, 3, 4) if at >= start]
        assert steps == dict(model=wanted, critic=wanted)


def test_autocast_spares_the_critic(monkeypatch):
    """Train with mmengine's AmpOptimWrapper, which refuses to start on a CPU."""
    where = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{where}.is_cuda_available', lambda: True)
    monkeypatch.setattr('mmengine.runner.amp.get_device', lambda: 'cpu')
    model = tiny_model(critic=CRITIC)
    both = optimizers(
        model,
        type='AmpOptimWrapper',
        dtype='bfloat16',
        loss_scale=dict(enabled=False),
    )
    seen = {}
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            part.register_forward_hook(
                lambda part, given, out, name=name: seen.setdefault(
                    name.split('.')[0], set()
                ).add(out.dtype)
            )
    before = weights(model)
    log = model.train().train_step(batch(), both)
    assert seen.pop('critic') == {torch.float32}
    assert set(seen) == {'backbone', 'decoder', 'depth_head', 'seg_head'}
    assert all(types == {torch.bfloat16} for types in seen.values())
    assert all(value.isfinite() for value in log.values())
    after = weights(model)
    assert all(value.dtype == torch.float32 for value in after.values())
    for part in ('decoder.', 'critic.'):
        assert any(
            not torch.equal(value, before[name])
            for name, value in after.items()
            if name.startswith(part)
        )


class Stop(Hook):
    """End a run by an exception before an iteration, and record what it trains on."""

    def __init__(self, iteration=None):
        self.iteration = iteration
        self.images = {}
        self.rates = {}
        self.gradients = {}
        self.start = None

    def before_train(self, runner):
        self.start = weights(runner.model)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        named = dict(unwrapped(runner.model).named_parameters())
        self.gradients[runner.iter] = [
            named[name].grad.clone()
            for name in named
            if name.replace('.module.', '.') in PROBES and named[name].grad is not None
        ]

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise KeyboardInterrupt
        self.images[runner.iter] = [x.img_path for x in data_batch['data_samples']]
        self.rates[runner.iter] = {
            name: [group['lr'] for group in wrapper.optimizer.param_groups]
            for name, wrapper in runner.optim_wrapper.items()
        }


def run(config, stop=None, **changes):
    """Train; return what the hook recorded, and the last checkpoint."""
    hook = Stop(stop)
    runner = train_until(stop, config, hook, **changes)
    iterator = runner.train_loop.dataloader_iterator
    workers = getattr(iterator, 'iterator', iterator)._iterator
    if hasattr(workers, '_shutdown_workers'):
        workers._shutdown_workers()  # the garbage collector needs 5 seconds for each
    return hook, read_checkpoint(
        f'{config.work_dir}/iter_{stop or config.train_cfg.max_iters}.pth'
    )


class TestRunner:
    @pytest.fixture(scope='class', params=[1, 2])
    def straight(self, request, synthscapes, tmp_path_factory):
        """Train 4 iterations without a stop; also with accumulated gradients."""
        settings = dict(accumulative_counts=request.param)
        work_dir = tmp_path_factory.mktemp('straight')
        hook, end = run(small_config(synthscapes, work_dir, **settings))
        return settings, hook, end, work_dir

    def test_checkpoint_has_both_optimisers(self, straight):
        _, _, end, work_dir = straight
        assert list(end['optimizer']) == ['model', 'critic']
        for name, state in end['optimizer'].items():
            moments = [one['exp_avg_sq'] for one in state['state'].values()]
            assert any(moment.any() for moment in moments), name
        assert list(end['param_schedulers']) == ['model', 'critic']
        assert end['param_schedulers']['critic'] == []
        start = read_checkpoint(work_dir / 'iter_2.pth')['state_dict']
        for part in ('backbone.', 'decoder.', 'depth_head.', 'seg_head.', 'critic.'):
            assert any(
                not torch.equal(value, start[name])
                for name, value in end['state_dict'].items()
                if name.startswith(part)
            )

    def test_rates_follow_the_schedule(self, straight):
        _, hook, _, _ = straight
        top = load_config('swinmtl/synthscapes').optim_wrapper.optimizer.lr
        for step in range(4):
            rates = hook.rates[step]
            assert set(rates['critic']) == {1e-4}
            factor = rise_and_fall(step, 4) / 5e-4
            assert max(rates['model']) == pytest.approx(top * factor)
            assert min(rates['model']) == pytest.approx(top * 0.9**7 * factor)

    def test_resumed_run_is_identical(self, straight, synthscapes, tmp_path):
        settings, hook, end, _ = straight
        first, _ = run(small_config(synthscapes, tmp_path, **settings), stop=2)
        resumed, found = run(
            small_config(synthscapes, tmp_path, **settings), resume=True
        )
        assert {**first.images, **resumed.images} == hook.images
        assert sorted(resumed.images) == [2, 3]
        assert_same_end(found, end)

    def test_workers_change_nothing(self, straight, synthscapes, tmp_path):
        settings, hook, end, _ = straight
        config = small_config(synthscapes, tmp_path, workers=2, **settings)
        found_hook, found = run(config)
        assert found_hook.images == hook.images
        assert_same_end(found, end)

    def test_another_seed_gives_another_run(self, straight, synthscapes, tmp_path):
        settings, hook, end, _ = straight
        config = small_config(synthscapes, tmp_path, **settings)
        found_hook, found = run(config, randomness=dict(seed=4))
        assert found_hook.images != hook.images
        name = 'critic.layers.0.weight'
        assert not torch.equal(found['state_dict'][name], end['state_dict'][name])

    @pytest.mark.parametrize('workers', [0, 2])
    def test_run_without_a_seed_resumes_identically(
        self, workers, synthscapes, tmp_path
    ):
        """Resume a copy of a run in the middle; the seed is in the checkpoint."""
        changes = dict(randomness=dict(seed=None))
        config = small_config(synthscapes, tmp_path / 'straight', workers=workers)
        hook, end = run(config, **changes)
        middle = tmp_path / 'straight' / 'iter_2.pth'
        config = small_config(synthscapes, tmp_path / 'resumed', workers=workers)
        resumed, found = run(config, resume=True, load_from=str(middle), **changes)
        assert resumed.images == {at: hook.images[at] for at in (2, 3)}
        assert_same_end(found, end)

    def test_exported_file_has_plain_names(self, straight, synthscapes):
        _, _, end, work_dir = straight
        exported = read_checkpoint(work_dir / 'model.pth')['state_dict']
        wanted = {
            name: value
            for name, value in end['state_dict'].items()
            if not name.startswith('critic.')
        }
        assert_identical(dict(exported), wanted)
        config = small_config(synthscapes, work_dir)
        MODELS.build({**config.model, 'critic': None}).load_state_dict(exported)

    def test_exported_file_is_trained_on_with_a_new_critic(
        self, straight, synthscapes, tmp_path
    ):
        settings, _, _, work_dir = straight
        config = small_config(synthscapes, tmp_path, **settings)
        hook, _ = run(config, load_from=str(work_dir / 'model.pth'))
        exported = read_checkpoint(work_dir / 'model.pth')['state_dict']
        for name, value in hook.start.items():
            if not name.startswith('critic.'):
                assert torch.equal(value, exported[name]), name
        damaged = {
            name: value for name, value in exported.items() if 'head' not in name
        }
        torch.save(dict(state_dict=damaged), tmp_path / 'damaged.pth')
        config = small_config(synthscapes, tmp_path, **settings)
        with pytest.raises(ValueError, match=r'depth_head.layers.0.weight is missing'):
            run(config, load_from=str(tmp_path / 'damaged.pth'))


@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_two_ranks(accumulative_counts, synthscapes, tmp_path, monkeypatch):
    """Train on two ranks, stop, resume; the ranks must agree, and the runs, too."""
    if torch.cuda.is_initialized():
        pytest.skip('a forked child cannot use the GPU')
    monkeypatch.setenv('LOCAL_RANK', '0')
    settings = dict(accumulative_counts=accumulative_counts)

    def train(name, rank, **options):
        config = small_config(synthscapes, tmp_path / name, **settings)
        config.launcher = 'pytorch'
        assert config.model_wrapper_cfg.type == 'MMSeparateDistributedDataParallel'
        config.model_wrapper_cfg.device_ids = None  # mmengine gives a GPU's
        config.update(options)
        runner, hook = Runner.from_cfg(config), Stop()
        assert isinstance(runner.model, MMSeparateDistributedDataParallel)
        assert isinstance(
            runner.model.module.critic, torch.nn.parallel.DistributedDataParallel
        )
        runner.register_hook(hook)
        runner.train()
        end = dict(vars(hook), weights=weights(runner.model.module))
        torch.save(end, tmp_path / f'{name}_{rank}.pth')

    def work(rank):
        train('straight', rank)
        middle = str(tmp_path / 'straight' / 'iter_2.pth')
        train('resumed', rank, resume=True, load_from=middle)

    assert two_ranks(work, tmp_path) == [0, 0]
    one, other = (torch.load(tmp_path / f'straight_{rank}.pth') for rank in (0, 1))
    assert all(one['images'][t] != other['images'][t] for t in range(4))
    assert_identical(one['weights'], other['weights'])
    # Gradients that wait for the next iteration are each rank's own.
    waiting = [*zip(one['gradients'][0], other['gradients'][0], strict=True)]
    assert len(waiting) == (2 if accumulative_counts == 2 else 0)
    assert not any(torch.equal(*pair) for pair in waiting)
    straight, resumed = (
        read_checkpoint(tmp_path / name / 'iter_4.pth')
        for name in ('straight', 'resumed')
    )
    assert_same_end(resumed, straight)
    middle = read_checkpoint(tmp_path / 'straight' / 'iter_2.pth')['state_dict']
    for part in ('decoder.', 'critic.'):
        names = [name for name in middle if name.startswith(part)]
        assert any(not torch.equal(middle[n], straight['state_dict'][n]) for n in names)
    exported = read_checkpoint(tmp_path / 'straight' / 'model.pth')['state_dict']
    assert not any('module.' in name or 'critic' in name for name in exported)
    config = small_config(synthscapes, tmp_path)
    MODELS.build({**config.model, 'critic': None}).load_state_dict(exported)
    for name, value in exported.items():
        assert torch.equal(value, straight['state_dict'][name])
    assert math.isfinite(sum(float(value.sum()) for value in exported.values()))
