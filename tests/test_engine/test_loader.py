"""Test that a resumed run starts its loader late, and reads nothing to skip it."""

import itertools

import pytest
import torch
from mmengine.dataset import Compose, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Dataset

from mmcast.datasets.samplers import LabeledUnlabeledSampler
from mmcast.datasets.seeding import seed_sample
from mmcast.engine.loader import AdvancedIterator, EpochBatches, LaterBatches


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
    """Record batches and epochs; end an epoch that does not."""

    def __init__(self, stop=None):
        self.seen = {}
        self.epochs = []
        self.stop = stop

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        assert runner.iter < 30
        self.seen[runner.iter] = data_batch['inputs'].flatten().tolist()
        self.epochs.append(runner.epoch)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.stop:
            raise KeyboardInterrupt


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


def make_runner(
    work_dir,
    train_cfg,
    loader,
    hooks,
    *,
    by_epoch=False,
    interval=3,
    save_begin=0,
    counts=1,
    **arguments,
):
    if isinstance(loader, dict):
        loader = dict(batch_size=2, num_workers=0, collate_fn=collate) | loader
    return Runner(
        model=Scale(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=train_cfg,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1), accumulative_counts=counts
        ),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                interval=interval,
                by_epoch=by_epoch,
                save_begin=save_begin,
            )
        ),
        custom_hooks=hooks,
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{id(hooks)}',
        **dict(randomness=dict(seed=3)) | arguments,
    )


def run(work_dir, max_iters, sampler=None, **arguments):
    loader = dict(
        dataset=Numbers(),
        sampler=sampler or dict(type='InfiniteSampler'),
        **arguments.pop('loader', {}),
    )
    hook = Batches()
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters)
    hooks = [dict(type='RandomStateHook'), hook]
    runner = make_runner(work_dir, train_cfg, loader, hooks, **arguments)
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


def run_epochs(
    work_dir, max_epochs, sampler, *, hook='PreflightHook', stop=None, **arguments
):
    """Train; return the batches, and the epoch of each."""
    both = ConcatDataset([Numbers(), Numbers()])
    loader = dict(dataset=both, sampler=sampler, **arguments.pop('loader', {}))
    batches = Batches(stop)
    runner = make_runner(
        work_dir,
        dict(type='EpochBasedTrainLoop', max_epochs=max_epochs),
        loader,
        [dict(type=hook), batches],
        **arguments,
    )
    if stop is None:
        runner.train()
        assert runner.iter == runner.max_iters
        assert runner.epoch == max_epochs
    else:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    return batches.seen, batches.epochs


ENDLESS = {
    'InfiniteSampler': dict(type='InfiniteSampler'),
    'MultiSourceSampler': dict(
        type='MultiSourceSampler', batch_size=2, source_ratio=[1, 1]
    ),
    'LabeledUnlabeledSampler': dict(type='LabeledUnlabeledSampler'),
}
WORKERS = [
    dict(num_workers=0),
    dict(num_workers=1, persistent_workers=False),
    dict(num_workers=1, persistent_workers=True),
]


@pytest.mark.parametrize('hook', ['PreflightHook', 'RandomStateHook'])
@pytest.mark.parametrize('sampler', ENDLESS)
def test_epoch_of_an_endless_sampler_ends(sampler, hook, tmp_path):
    """Check that epochs are those of the loop, and the stream is not broken by them."""
    seen, epochs = run_epochs(tmp_path, 2, ENDLESS[sampler], hook=hook)
    assert epochs == [0] * 10 + [1] * 10
    both = ConcatDataset([Numbers(), Numbers()])
    stream = iter(
        DATA_SAMPLERS.build(
            dict(ENDLESS[sampler], dataset=both, seed=3, _scope_='mmdet')
        )
    )
    expected = [float(both[next(stream)]) for _ in range(40)]
    assert list(itertools.chain(*seen.values())) == expected


@pytest.mark.parametrize('workers', WORKERS)
def test_workers_read_the_same_epochs(workers, tmp_path):
    sampler = ENDLESS['LabeledUnlabeledSampler']
    seen, epochs = run_epochs(tmp_path / 'some', 3, sampler, loader=workers)
    assert epochs == [0] * 10 + [1] * 10 + [2] * 10
    assert (seen, epochs) == run_epochs(tmp_path / 'none', 3, sampler)


@pytest.mark.parametrize('workers', WORKERS)
@pytest.mark.parametrize(
    ('by_epoch', 'interval', 'stop', 'name', 'first'),
    [
        (True, 1, 12, 'epoch_1', 10),
        (False, 3, 8, 'iter_6', 6),
        # It does not count the epoch that it ends.
        (False, 5, 13, 'iter_10', 10),
    ],
)
def test_resumed_epochs_are_identical(
    by_epoch, interval, stop, name, first, workers, tmp_path
):
    """Stop within an epoch; resume at its start, within it, and at the end of one."""
    sampler = ENDLESS['LabeledUnlabeledSampler']
    straight, epochs = run_epochs(tmp_path / 'straight', 3, sampler)
    options = dict(by_epoch=by_epoch, interval=interval)
    run_epochs(
        tmp_path / 'stopped', 3, sampler, stop=stop, loader=dict(workers), **options
    )
    last = (tmp_path / 'stopped' / 'last_checkpoint').read_text()
    assert last.endswith(f'{name}.pth')
    # Another seed, so that the runner's must come from the checkpoint.
    options.update(resume=True, randomness=dict(seed=7))
    again = run_epochs(
        tmp_path / 'stopped', 3, sampler, loader=dict(workers), **options
    )
    assert again == ({t: straight[t] for t in range(first, 30)}, epochs[first:])


def test_resumed_epochs_of_a_sampler_that_ends_are_identical(tmp_path):
    """Both runs draw a seed; the second one's is not used."""
    sampler = dict(type='DefaultSampler', shuffle=True)
    drawn = dict(hook='RandomStateHook', randomness=dict(seed=None))
    drawn.update(by_epoch=True, interval=1)
    straight, _ = run_epochs(tmp_path, 2, sampler, **drawn)
    middle = str(tmp_path / 'epoch_1.pth')
    resumed, _ = run_epochs(
        tmp_path, 2, sampler, resume=True, load_from=middle, **drawn
    )
    assert resumed == {t: straight[t] for t in range(10, 20)}


class Draws(Dataset):
    """Random numbers, as those of a user's augmentation."""

    metainfo = {}

    def __len__(self):
        return 6

    def __getitem__(self, index):
        seed_sample(index)
        return torch.rand(1)

    def get_data_info(self, index):
        return dict(width=64, height=48)


@pytest.mark.parametrize('batches_of', [None, dict(type='AspectRatioBatchSampler')])
@pytest.mark.parametrize('workers', WORKERS)
def test_samples_of_a_resumed_epoch_are_identical(workers, batches_of, tmp_path):
    """With a sampler of mmdet's, and workers that go on from epoch to epoch."""
    options = dict(by_epoch=True, interval=1)
    train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
    loader = dict(workers, dataset=Draws(), sampler=dict(type='DefaultSampler'))
    loader['batch_sampler'] = batches_of

    def batches(folder, **more):
        hook = Batches()
        hooks = [dict(type='RandomStateHook'), hook]
        make_runner(folder, train_cfg, dict(loader), hooks, **options, **more).train()
        return hook.seen

    straight = batches(tmp_path)
    assert len({draw for batch in straight.values() for draw in batch}) == 12
    middle = str(tmp_path / 'epoch_1.pth')
    resumed = batches(tmp_path, resume=True, load_from=middle)
    assert resumed == {t: straight[t] for t in (3, 4, 5)}


SPLIT_STEPS = [  # an epoch has 10 batches
    (3, dict(by_epoch=True, interval=1), 'iteration 10, .* the interval to 3$'),
    (4, dict(by_epoch=True, interval=1), 'iteration 10, .* the interval to 2$'),
    (2, dict(interval=3), 'iteration 3, .* the interval to 4$'),
    (2, dict(interval=4, save_begin=5), 'iteration 5, .* 4 and save_begin to 0$'),
]


@pytest.mark.parametrize(('counts', 'options', 'message'), SPLIT_STEPS)
def test_checkpoint_between_two_steps_raises(counts, options, message, tmp_path):
    with pytest.raises(ValueError, match=f'would save after {message}'):
        run_epochs(tmp_path, 4, dict(type='InfiniteSampler'), counts=counts, **options)
    assert [*tmp_path.glob('*.pth')] == []


@pytest.mark.parametrize(('counts', 'interval'), [(5, 1), (4, 2), (3, 3), (7, 9)])
def test_checkpoint_after_an_epoch_that_ends_with_a_step(counts, interval, tmp_path):
    sampler = dict(type='InfiniteSampler')
    options = dict(counts=counts, by_epoch=True, interval=interval)
    run_epochs(tmp_path, 3, sampler, **options)
    assert (tmp_path / 'epoch_3.pth').is_file()


def test_a_loader_that_somebody_built(tmp_path):
    """Both hooks wrap it, and only once."""
    data = ConcatDataset([Numbers(), Numbers()])
    loader = DataLoader(
        data, 2, sampler=InfiniteSampler(data, seed=3), collate_fn=collate
    )
    hook = Batches()
    hooks = [dict(type='PreflightHook'), dict(type='RandomStateHook'), hook]
    train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
    make_runner(tmp_path, train_cfg, loader, hooks).train()
    expected, _ = run_epochs(tmp_path / 'ours', 2, ENDLESS['InfiniteSampler'])
    assert hook.seen == expected


def test_transforms_that_keep_images_are_named(tmp_path):
    """Use RTMDet-Ins's in a wrapped data set, one of them inside another transform."""
    mixup = dict(type='mmdet.CachedMixUp', img_scale=(64, 48))
    data = Numbers()
    data.pipeline = Compose(
        [
            dict(type='mmdet.CachedMosaic', img_scale=(64, 48)),
            dict(type='mmcv.RandomApply', transforms=[mixup]),
            dict(type='mmdet.RandomFlip', prob=0.5),
        ]
    )
    hooks = [dict(type='RandomStateHook')]
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
    for name, dataset in dict(keeps=data, plain=Numbers()).items():
        loader = dict(
            dataset=ConcatDataset([dataset]), sampler=dict(type='InfiniteSampler')
        )
        make_runner(tmp_path / name, train_cfg, loader, hooks).train()
        (log,) = (tmp_path / name).glob('*/*.log')
        warned = 'CachedMosaic and CachedMixUp mix in images' in log.read_text()
        assert warned == (name == 'keeps')


@pytest.mark.parametrize('ranks', [1, 2, 3])
def test_an_epoch_is_shared_by_the_ranks(ranks, monkeypatch):
    """Three ranks read 20 images in 7 turns, and none of mmdet's 20."""
    monkeypatch.setattr(
        'mmdet.datasets.samplers.multi_source_sampler.get_dist_info', lambda: (0, ranks)
    )
    both = ConcatDataset([Numbers(), Numbers()])
    assert len(LabeledUnlabeledSampler(both, seed=0)) == {1: 20, 2: 10, 3: 7}[ranks]


def test_epoch_batches():
    batches = BatchSampler(InfiniteSampler(Numbers(), shuffle=False), 3, False)
    epochs = EpochBatches(batches, length=2, start=3)
    assert [*epochs] == [[9, 0, 1]]
    assert [*epochs] == [[2, 3, 4], [5, 6, 7]]
    assert [*epochs] == [[8, 9, 0], [1, 2, 3]]
    assert len(epochs) == 2
    assert epochs.sampler is batches.sampler
