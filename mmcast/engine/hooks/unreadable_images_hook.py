"""Count the unlabelled images that training skips since they cannot be read."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcast.datasets.semi_supervised import SemiSupervisedDataset


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Name skipped images in the log, and again at the end; stop if they are too many.

    ``SemiSupervisedDataset`` says how many of its unlabelled images may be unreadable.
    Does nothing with another data set.
    """

    def __init__(self) -> None:
        self.skipped: dict[str, None] = {}  # in order

    def before_train(self, runner: Runner) -> None:
        """Start to count."""
        self.skipped.clear()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Look for images that were skipped in this batch.

        Raises:
            ValueError: More images than allowed were unreadable on this rank.
        """
        dataset = runner.train_loop.dataloader.dataset
        if not isinstance(dataset, SemiSupervisedDataset):
            return
        samples = data_batch['data_samples']
        unlabeled = samples.get('unsup', []) if isinstance(samples, dict) else []
        for sample in filter(None, unlabeled):
            for image in sample.get('unreadable', []):
                if image not in self.skipped:
                    self.skipped[image] = None
                    runner.logger.warning(f'skipped, cannot be read: {image}')
        allowed = dataset.allowed_unreadable()
        if len(self.skipped) > allowed:
            raise ValueError(
                f'{len(self.skipped)} unlabelled images cannot be read, the last is '
                f'{[*self.skipped][-1]}: repair them or take them off the list, then '
                'continue with --resume, or raise '
                'train_dataloader.dataset.unreadable_share, which allows '
                f'{allowed}'
            )

    def after_train(self, runner: Runner) -> None:
        """Name all images that were skipped, on any rank."""
        ranks = all_gather_object([*self.skipped])
        names = dict.fromkeys(name for rank in ranks for name in rank)
        if names:
            runner.logger.warning(
                f'{len(names)} unlabelled images were skipped, since they cannot be '
                f'read: {"; ".join(names)}'
            )
