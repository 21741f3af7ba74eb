"""Test that a resumed run starts its loader late, and reads nothing to skip it."""

import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import BatchSampler, Dataset

from mmcast.engine.loader import AdvancedIterator, LaterBatches


class Numbers(Dataset):
    """Numbers that record which of them were read."""

    metainfo = {}

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.read.append(int(index))
        return torch.tensor([float(index)])


class Scale(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=(self.weight * inputs).mean())


class Batches(Hook):
    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen[runner.iter] = data_batch['inputs'].flatten().tolist()


def collate(batch):
    return dict(inputs=torch.stack(batch))


@DATA_SAMPLERS.register_module(force=True)
class PairedBatchSampler(BatchSampler):
    """Batches with a memory: each has the last number of the one before."""

    def __init__(self, sampler, batch_size):
        super().__init__(sampler, batch_size - 1, False)

    def __iter__(self):
        last = 0
        for batch in super().__iter__():
            yield [last, *batch]
            last = batch[-1]


def run(work_dir, max_iters, sampler=None, **arguments):
    loader = dict(
        dataset=Numbers(),
        batch_size=2,
        num_workers=0,
        sampler=sampler or dict(type='InfiniteSampler'),
        collate_fn=collate,
        **arguments.pop('loader', {}),
    )
    hook = Batches()
    runner = Runner(
        model=Scale(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False)
        ),
        custom_hooks=[dict(type='RandomStateHook'), hook],
        randomness=arguments.pop('randomness', dict(seed=3)),
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{id(hook)}',
        **arguments,
    )
    runner.train()
    return hook.seen, runner.train_dataloader.dataset.read


@pytest.mark.parametrize(
    'loader',
    [{}, dict(drop_last=True), dict(batch_sampler=dict(type='PairedBatchSampler'))],
)
def test_no_sample_is_read_to_be_skipped(loader, tmp_path):
    straight, _ = run(tmp_path / 'straight', 9, loader=loader)
    run(tmp_path / 'stopped', 6, loader=loader)
    resumed, read = run(tmp_path / 'stopped', 9, resume=True, loader=loader)
    assert resumed == {t: straight[t] for t in (6, 7, 8)}
    assert len(read) == 6


def test_sampler_that_ends_is_advanced_by_mmengine(tmp_path):
    sampler = dict(type='DefaultSampler', shuffle=True)
    straight, _ = run(tmp_path / 'straight', 4, sampler=sampler)
    run(tmp_path / 'stopped', 3, sampler=sampler)
    resumed, read = run(tmp_path / 'stopped', 4, sampler=sampler, resume=True)
    assert resumed == {3: straight[3]}
    assert len(read) == 8


def test_seed_of_the_checkpoint_is_taken(tmp_path):
    """Both runs draw a seed; the second one's is not used."""
    drawn = dict(randomness=dict(seed=None))
    straight, _ = run(tmp_path, 6, **drawn)
    middle = str(tmp_path / 'iter_3.pth')
    resumed, _ = run(tmp_path, 6, resume=True, load_from=middle, **drawn)
    assert resumed == {t: straight[t] for t in (3, 4, 5)}


def test_later_batches():
    batches = BatchSampler(InfiniteSampler(Numbers(), shuffle=False), 3, False)
    later = LaterBatches(batches, 2)
    assert next(iter(later)) == [6, 7, 8]
    assert later.sampler is batches.sampler


def test_both_ways_of_mmengine_to_advance_lead_to_the_same_batch():
    batches = [dict(inputs=i) for i in range(3)]
    called, skipped = (AdvancedIterator(iter(batches), 2) for _ in range(2))
    assert [next(called) for _ in range(3)] == [None, None, batches[0]]
    skipped.skip_iter(2)
    assert next(skipped) == batches[0]
    # A loader whose sampler ends starts at 0.
    ends = AdvancedIterator(iter(batches), 0)
    ends.skip_iter(2)
    assert next(ends) == batches[2]
