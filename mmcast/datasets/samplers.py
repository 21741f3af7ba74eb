"""Labelled and unlabelled images in every batch."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmdet.datasets.samplers import MultiSourceSampler
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import Dataset, Sampler

from .seeding import PlacedIndex


@DATA_SAMPLERS.register_module()
class LabeledUnlabeledSampler(MultiSourceSampler):
    """Draw from labelled and unlabelled images in turn, in a fixed ratio, for ever.

    If a data set has no unlabelled images, it draws labelled ones only. An index knows
    its place in the stream, and the data set seeds the sample's random numbers with it.

    Its length is this rank's share of all images. ``PreflightHook`` or
    ``RandomStateHook`` ends an epoch of an ``EpochBasedTrainLoop`` after so many.

    Args:
        dataset: A ``SemiSupervisedDataset``.
        source_ratio: How many labelled and how many unlabelled images follow each
            other. The loader's ``batch_size`` should be a multiple of their sum.
        repeat_thr: How much more often labelled images of rare classes come, see
            :func:`repeat_factors`; None for all equally often. An image with a factor
            of 2.3 comes two or three times per epoch, at random.
        shuffle: Whether the order is random.
        seed: Seed of the order; all ranks share it.

    Raises:
        ValueError: ``source_ratio`` is not two positive integers, or ``repeat_thr`` is
            not positive.
    """

    def __init__(
        self,
        dataset: Dataset,
        source_ratio: Sequence[int] = (1, 1),
        repeat_thr: float | None = None,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        if len(source_ratio) != 2 or any(
            not isinstance(part, int) or part < 1 for part in source_ratio
        ):
            raise ValueError(
                f'source_ratio={list(source_ratio)} must be two positive integers, the '
                'labelled and the unlabelled images that follow each other'
            )
        if repeat_thr is not None and repeat_thr <= 0:
            raise ValueError(f'repeat_thr={repeat_thr} must be positive, or None')
        ratio = list(source_ratio)[: len(dataset.datasets)]  # type: ignore[attr-defined]
        super().__init__(dataset, sum(ratio), ratio, shuffle=shuffle, seed=seed)
        if repeat_thr is None:
            return
        labeled = self.dataset.datasets[0]
        classes = [
            {
                instance['bbox_label']
                for instance in labeled.get_data_info(index)['instances']
                if not instance.get('ignore_flag')
            }
            for index in range(len(labeled))
        ]
        stream = self._repeated_indices(repeat_factors(classes, repeat_thr))
        self.source2inds[0] = itertools.islice(stream, self.rank, None, self.world_size)

    def __iter__(self) -> Iterator[PlacedIndex]:
        places = itertools.count(self.rank, self.world_size)
        for place, index in zip(places, super().__iter__(), strict=False):
            yield PlacedIndex(index, place, self.seed)

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.world_size)

    def _repeated_indices(self, factors: Sequence[float]) -> Iterator[int]:
        """Yield epochs of the labelled images for ever, the same on every rank."""
        generator = torch.Generator().manual_seed(self.seed)
        exact = torch.tensor(factors, dtype=torch.float64)
        while True:
            draw = torch.rand(len(exact), generator=generator, dtype=torch.float64)
            counts = exact.floor() + (draw < exact.frac())
            epoch = torch.arange(len(exact)).repeat_interleave(counts.long())
            if self.shuffle:
                epoch = epoch[torch.randperm(len(epoch), generator=generator)]
            yield from epoch.tolist()


@DATA_SAMPLERS.register_module()
class PlacedInfiniteSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler`` whose indices know their place in the stream.

    :class:`DepthSegDataset` seeds a sample's random numbers with it.
    """

    def _indices_of_rank(self) -> Iterator[int]:
        places = itertools.count(self.rank, self.world_size)
        for place, index in zip(places, super()._indices_of_rank(), strict=False):
            yield PlacedIndex(index, place, self.seed)


class PlacedEpochs(Sampler[int]):
    """A sampler that ends, with indices that know their place in all epochs' stream.

    Args:
        sampler: Any that yields one rank's share of an epoch.
        seed: Seed of the run.
    """

    def __init__(self, sampler: Any, seed: int) -> None:
        self.sampler = sampler
        self.dataset = sampler.dataset  # batch samplers look at the images' sizes
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[PlacedIndex]:
        rank, ranks = get_dist_info()
        start = self.epoch * len(self)
        for place, index in enumerate(self.sampler, start):
            yield PlacedIndex(index, place * ranks + rank, self.seed)

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that comes next."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)


def repeat_factors(classes: Sequence[set[int]], threshold: float) -> list[float]:
    """Compute how often each image comes per epoch; rare classes come more often.

    Source: LVIS (arXiv 1908.03195), repeat factor sampling. Guided Distillation uses a
    threshold of 10, which is above any share, so that every class counts.

    Args:
        classes: For each image, the classes that it shows.
        threshold: t.

    Returns:
        For each image, the greatest max(1, sqrt(t / f)) of its classes, where f is the
        share of images that show the class; 1 for an image that shows none.
    """
    shown = Counter(label for image in classes for label in image)
    factor = {
        label: max(1.0, math.sqrt(threshold * len(classes) / count))
        for label, count in shown.items()
    }
    return [max((factor[label] for label in image), default=1.0) for image in classes]
