"""Labelled and unlabelled images in every batch."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from mmdet.datasets.samplers import MultiSourceSampler
from mmdet.registry import DATA_SAMPLERS
from torch.utils.data import Dataset


@DATA_SAMPLERS.register_module()
class LabeledUnlabeledSampler(MultiSourceSampler):
    """mmdet's ``MultiSourceSampler``, which draws for ever where a source gets nothing.

    Args:
        dataset: A ``SemiSupervisedDataset``.
        batch_size: Images a batch and device, of both sources.
        source_ratio: Labelled to unlabelled images.
        repeat_thr: Labelled images with rarer classes come more often, see
            :func:`repeat_factors`; None for all of them equally often. An image with a
            factor of 2.3 comes two or three times an epoch, by chance.
        kwargs: As mmdet's.

    Raises:
        ValueError: A batch has no room for both sources, or ``repeat_thr`` is not
            positive.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        source_ratio: Sequence[int | float],
        repeat_thr: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(dataset, batch_size, list(source_ratio), **kwargs)
        if min(self.num_per_source) < 1:
            labeled, unlabeled = self.num_per_source
            raise ValueError(
                f'batch_size={batch_size} with source_ratio={list(source_ratio)} gives '
                f'{labeled} labelled and {unlabeled} unlabelled images a batch: raise '
                'train_dataloader.batch_size and train_dataloader.sampler.batch_size, '
                'or change the ratio'
            )
        if repeat_thr is None:
            return
        if repeat_thr <= 0:
            raise ValueError(f'repeat_thr={repeat_thr} must be positive, or None')
        labelled = self.dataset.datasets[0]
        classes = [
            {
                instance['bbox_label']
                for instance in labelled.get_data_info(index)['instances']
                if not instance.get('ignore_flag')
            }
            for index in range(len(labelled))
        ]
        stream = self._repeated_indices(repeat_factors(classes, repeat_thr))
        self.source2inds[0] = itertools.islice(stream, self.rank, None, self.world_size)

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


def repeat_factors(classes: Sequence[set[int]], threshold: float) -> list[float]:
    """How often each image comes an epoch, so that rare classes come more often.

    Source: LVIS (arXiv 1908.03195), repeat factor sampling, as Guided Distillation
    uses it: a threshold of 10 is above any share, so that every class counts.

    Args:
        classes: Of each image, the classes that it shows.
        threshold: t.

    Returns:
        Of each image, the greatest max(1, sqrt(t / f)) of its classes, where f is the
        share of images that show the class; 1 for an image that shows none.
    """
    shown = Counter(label for image in classes for label in image)
    factor = {
        label: max(1.0, math.sqrt(threshold * len(classes) / count))
        for label, count in shown.items()
    }
    return [max((factor[label] for label in image), default=1.0) for image in classes]
