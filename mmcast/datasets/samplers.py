"""Labelled and unlabelled images in every batch."""

from collections.abc import Sequence

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
        kwargs: As mmdet's.

    Raises:
        ValueError: A batch has no room for both sources.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        source_ratio: Sequence[int | float],
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
