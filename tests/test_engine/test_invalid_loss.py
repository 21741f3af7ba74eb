"""Test that steps with an invalid loss are skipped, and that too many end a run."""

import copy
import itertools

import pytest
import torch
from gloo_ranks import two_ranks
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mmcast.checkpoints import read_checkpoint


class Line(BaseModel):
    """A line whose loss is invalid on some iterations, its gradient on another."""

    def __init__(self, losses=(), with_norm=False, steep=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.norm = nn.BatchNorm1d(2) if with_norm else None
        self.losses = dict(losses)
        self.steep = steep
        self.calls = 0

    def forward(self, inputs, data_samples, mode='loss'):
        x = torch.stack([*inputs])
        bad = self.losses.get(self.calls)
        self.calls += 1
        if self.norm is not None:
            x = self.norm(x if bad is None else x * bad)
        loss = (x * self.weight).square().mean()
        if self.steep == self.calls - 1:  # the gradient of a root at 0
            loss = loss + (self.weight - self.weight.detach()).square().sum().sqrt()
        return dict(loss=loss if bad is None else loss * bad)


class Points(Dataset):
    metainfo = {}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        sample = BaseDataElement(metainfo=dict(img_path=f'image_{int(index)}.png'))
        x = torch.tensor([1.0 + int(index), 2.0])
        return dict(inputs=x, data_samples=sample)


class Weights(Hook):
    """Record the weights before each iteration and at the end."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = getattr(runner.model, 'module', runner.model)
        self.seen.append(model.weight.detach().clone())

    def after_train(self, runner):
        self.before_train_iter(runner, 0)

    def changed(self):
        """Return whether each step changed the weights."""
        return [not torch.equal(*pair) for pair in itertools.pairwise(self.seen)]


def train(
    work_dir,
    model,
    patience=3,
    max_iters=6,
    optim=None,
    wrapper=None,
    hooks=(),
    **arguments,
):
    weights = Weights()
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Points(),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=False),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
        optim_wrapper=wrapper
        or dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1), **optim or {}
        ),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)
        ),
        custom_hooks=[
            dict(type='SkipInvalidLossHook', patience=patience),
            weights,
            *hooks,
        ],
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{id(model)}',
        **arguments,
    )
    try:
        runner.train()
    finally:
        weights.log = ''.join(log.read_text() for log in work_dir.glob('*/*.log'))
    return weights


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_step_is_skipped_and_named(bad, tmp_path):
    seen = train(tmp_path, Line({2: bad}))
    assert seen.changed() == [True, True, False, True, True, True]
    assert f'Step 3 is skipped, since its loss is {bad}' in seen.log
    assert 'its images: image_4.png, image_5.png' in seen.log
    assert '1 of 6 steps were skipped' in seen.log


def test_moments_do_not_change(tmp_path):
    """Train with one invalid step; it must equal a run without that step."""
    model = Line({5: float('nan')})
    skipped = train(tmp_path / 'a', copy.deepcopy(model)).seen[-1]
    straight = train(tmp_path / 'b', Line(), max_iters=5).seen[-1]
    assert torch.equal(skipped, straight)


def test_good_steps_reset_the_count(tmp_path):
    losses = {t: float('nan') for t in (0, 1, 3, 4)}
    assert '4 of 6 steps' in train(tmp_path, Line(losses)).log


@pytest.mark.parametrize('first', [0, 2])
def test_too_many_in_a_row_end_the_run(first, tmp_path):
    losses = {t: float('nan') for t in range(first, 6)}
    remedy = (
        rf'the last good checkpoint is {tmp_path}/iter_{first + 2}\.pth: .* --resume'
        if first
        else r'the last good checkpoint is .*iter_2'
    )
    message = rf'^stopped at iteration {first + 3}: 3 losses in a row .*; {remedy}'
    with pytest.raises(FloatingPointError, match=message):
        train(tmp_path, Line(losses))
    saved = read_checkpoint(tmp_path / f'iter_{first + 2}.pth')['state_dict']
    assert torch.isfinite(saved['weight']).all()


def test_without_a_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match='saved no checkpoint with finite'):
        train(tmp_path, Line({0: float('nan')}), patience=1)


@pytest.mark.parametrize(('max_iters', 'told_at'), [(6, 4), (3, 3)])
def test_invalid_gradient_of_a_finite_loss_ends_the_run(max_iters, told_at, tmp_path):
    """The third step breaks the weights, and a checkpoint of them is written.

    The fourth step's loss tells it; if there is none, the end of the training does, and
    nothing is exported.
    """
    message = (
        rf'^stopped at iteration {told_at}: weight is no longer finite; the last good '
        rf'checkpoint is {tmp_path}/iter_2\.pth: .* --resume {tmp_path}/iter_2\.pth$'
    )
    with pytest.raises(FloatingPointError, match=message):
        train(
            tmp_path,
            Line(steep=2),
            max_iters=max_iters,
            hooks=[dict(type='ExportHook')],
        )
    assert not (tmp_path / 'student.pth').exists()
    saved = read_checkpoint(tmp_path / 'iter_3.pth')['state_dict']
    assert torch.isnan(saved['weight']).all()


def test_incomplete_and_older_checkpoints_are_not_named(tmp_path):
    train(tmp_path, Line())
    hooks = [dict(type='PreflightHook')]
    with pytest.raises(FloatingPointError, match='saved no checkpoint with finite'):
        train(tmp_path, Line(steep=0), hooks=hooks)

    class Tear(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 3:
                (tmp_path / 'iter_2.pth').write_bytes(b'PK')

    with pytest.raises(FloatingPointError, match=r'good checkpoint is .*iter_1\.pth'):
        train(tmp_path, Line(steep=2), hooks=[*hooks, Tear()])


def test_broken_statistics_end_the_run_at_once(tmp_path):
    model = Line({1: float('nan')}, with_norm=True)
    message = (
        r'^stopped at iteration 2: norm.running_mean is no longer finite; .*iter_1'
    )
    with pytest.raises(FloatingPointError, match=message):
        train(tmp_path, model)


def test_accumulated_gradients_of_the_step_are_dropped(tmp_path):
    """One part of a step is invalid, the first or the second one."""
    for part in (2, 3):
        seen = train(
            tmp_path / str(part),
            Line({part: float('nan')}),
            optim=dict(accumulative_counts=2),
        )
        assert seen.changed() == [False, True, False, False, False, True]


class TwoLosses(Line):
    """Two optimisers; the first one's loss is always finite."""

    def __init__(self, losses=()):
        super().__init__(losses)
        self.other = nn.Parameter(torch.ones(1))

    def train_step(self, data, optim_wrapper):
        optim_wrapper['other'].update_params(self.other.square().sum())
        loss = self(**self.data_preprocessor(data, True))['loss']
        optim_wrapper['own'].update_params(loss)
        return dict(loss=loss)


def test_each_of_several_optimisers_counts(tmp_path):
    model = TwoLosses({t: float('nan') for t in range(1, 6)})
    wrappers = {
        name: OptimWrapper(torch.optim.SGD([part], lr=0.1))
        for name, part in (('own', model.weight), ('other', model.other))
    }
    with pytest.raises(FloatingPointError, match='iteration 4: 3 losses in a row'):
        train(tmp_path, model, wrapper=OptimWrapperDict(**wrappers))


def test_patience_of_zero_raises(tmp_path):
    with pytest.raises(ValueError, match='patience=0: give at least 1'):
        train(tmp_path, Line(), patience=0)


def test_all_ranks_skip(tmp_path, monkeypatch):
    if torch.cuda.is_initialized():
        pytest.skip('a forked child cannot use the GPU')
    monkeypatch.setenv('LOCAL_RANK', '0')

    def work(rank):
        model = Line({2: float('nan')} if rank else {})
        seen = train(
            tmp_path / str(rank),
            model,
            launcher='pytorch',
            cfg=dict(
                model_wrapper_cfg=dict(
                    type='MMDistributedDataParallel', device_ids=None
                )
            ),
        )
        assert seen.changed() == [True, True, False, True, True, True]
        if rank == 0:  # it names what the other one met
            assert 'Step 3 is skipped, since its loss is nan; its images' in seen.log

    assert two_ranks(work, tmp_path) == [0, 0]
