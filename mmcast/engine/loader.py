"""Start a training loop's loader where a resumed run continues, without reading images.

mmengine (up to 0.10.7 at least) loads every batch that has been trained on, to throw it
away. With a sampler that never ends, its first epoch never ends.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from mmdet.datasets.samplers import MultiSourceSampler
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader

from mmcast.datasets.samplers import PlacedEpochs


class LaterBatches:
    """A batch sampler without its first batches.

    Args:
        batch_sampler: Any that never ends.
        start: Number of batches to leave out.
    """

    def __init__(self, batch_sampler: BatchSampler, start: int) -> None:
        self.batch_sampler = batch_sampler
        self.sampler = batch_sampler.sampler
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        return itertools.islice(iter(self.batch_sampler), self.start, None)

    def __len__(self) -> int:
        return len(self.batch_sampler)


class EpochBatches:
    """A batch sampler that cuts one that never ends into epochs.

    Each iteration is an epoch, and continues where the one before ended.

    Args:
        batch_sampler: Any that never ends.
        length: Number of batches in an epoch.
        start: Number of batches to leave out. If that is within an epoch, the first
            iteration is the rest of it.
    """

    def __init__(self, batch_sampler: BatchSampler, length: int, start: int) -> None:
        self.batch_sampler = batch_sampler
        self.sampler = batch_sampler.sampler
        self.length = length
        self._batches = itertools.islice(iter(batch_sampler), start, None)
        self._left = length - start % length

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, since a loader with workers asks for two and reads from one.
        left, self._left = self._left, self.length
        yield from itertools.islice(self._batches, left)

    def __len__(self) -> int:
        return self.length


class AdvancedIterator:
    """A loader's iterator that is already where mmengine wants to advance it.

    Args:
        iterator: mmengine's, over a loader that starts late.
        start: Number of batches that the loader leaves out. As many calls return None.
    """

    def __init__(self, iterator: Iterator[dict], start: int) -> None:
        self.iterator = iterator
        self.left = start

    def __iter__(self) -> Iterator[dict | None]:
        return self

    def __next__(self) -> dict | None:
        if self.left:
            self.left -= 1
            return None
        return next(self.iterator)

    def skip_iter(self, count: int) -> None:
        """Advance by a number of batches: how mmengine's fork (0.10.12) does it."""
        for _ in range(count):
            next(self)


def restart_loader(runner: Runner) -> None:
    """Put a new loader around the same data set, to start at ``runner.iter``.

    This brings a new sampler with the runner's seed, which a resumed run has from its
    checkpoint, and new workers. mmengine's ``IterBasedTrainLoop`` iterates from its
    constructor on. There, a loader whose sampler ends starts at 0, and mmengine
    advances it.

    In an ``EpochBasedTrainLoop`` an endless sampler gets the epochs that the loop has
    counted on: ``len(dataloader)`` batches, when it was built. Indices of one that ends
    know their place in the stream of all epochs. Call this before the first epoch.

    Other loops are left alone, and so is a loader that somebody built for epochs, if
    its sampler ends.
    """
    loop: Any = runner.train_loop
    iterator: Any = getattr(loop, 'dataloader_iterator', None)
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    if iterator is None and not by_epoch:
        return
    batch_sampler = _batch_sampler(runner)
    endless = _is_endless(getattr(batch_sampler, 'sampler', None))
    start = runner.iter if endless else 0
    if by_epoch:
        if not endless and not isinstance(runner._train_dataloader, dict):
            return
        if endless:
            length = loop.max_iters // loop.max_epochs
            batch_sampler = EpochBatches(batch_sampler, length, start)
            # A checkpoint after an epoch's last iteration does not count the epoch.
            loop._epoch = start // length
        loop.dataloader = _like(loop.dataloader, batch_sampler)
        return
    if isinstance(iterator, AdvancedIterator):
        iterator = iterator.iterator
    if start:
        batch_sampler = LaterBatches(batch_sampler, start)
    loop.dataloader = _like(loop.dataloader, batch_sampler)
    loop.dataloader_iterator = AdvancedIterator(type(iterator)(loop.dataloader), start)


def _is_endless(sampler: Any) -> bool:
    return isinstance(sampler, InfiniteSampler | MultiSourceSampler)


def _batch_sampler(runner: Runner) -> Any:
    """Build the train loader's samplers anew, as the runner does."""
    loader, config = runner.train_loop.dataloader, runner._train_dataloader
    if not isinstance(config, dict):  # a loader that somebody built
        wrapped = isinstance(loader.batch_sampler, LaterBatches | EpochBatches)
        return loader.batch_sampler.batch_sampler if wrapped else loader.batch_sampler
    own_seed = runner._randomness_cfg.get('diff_rank_seed', False)
    sampler = DATA_SAMPLERS.build(
        config['sampler'],
        default_args=dict(
            dataset=loader.dataset, seed=None if own_seed else runner.seed
        ),
    )
    if isinstance(runner.train_loop, EpochBasedTrainLoop) and not _is_endless(sampler):
        sampler = PlacedEpochs(sampler, runner.seed)
    batch_size = config.get('batch_size', 1)
    if config.get('batch_sampler') is None:
        return BatchSampler(sampler, batch_size, config.get('drop_last', False))
    return DATA_SAMPLERS.build(
        config['batch_sampler'],
        default_args=dict(sampler=sampler, batch_size=batch_size),
    )


def _like(loader: DataLoader, batch_sampler: Any) -> DataLoader:
    """Build a loader that differs in its samplers alone.

    The runner's own function would copy the data set.
    """
    names = (
        *('dataset', 'num_workers', 'collate_fn', 'pin_memory', 'timeout'),
        *('worker_init_fn', 'multiprocessing_context', 'generator'),
        *('prefetch_factor', 'persistent_workers', 'pin_memory_device'),
    )
    settings = {name: getattr(loader, name) for name in names}
    return DataLoader(batch_sampler=batch_sampler, **settings)
