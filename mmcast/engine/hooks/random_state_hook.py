"""A resumed run continues exactly, and at once."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmcast.datasets.seeding import MODEL, seed_everything
from mmcast.engine.loader import AdvancedIterator, restart_loader


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Make a resumed run continue exactly, and without reading images to skip them.

    No checkpoint holds the state of random, numpy and torch. So this hook seeds them
    before every iteration from seed, rank and iteration. ``LabeledUnlabeledSampler``
    and ``PlacedInfiniteSampler`` do the same for each sample.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Give a loop that counts epochs its loader, before the first epoch."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            restart_loader(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the loader where the run continues, with the checkpoint's seed.

        A run without ``randomness.seed`` draws a seed. Under ``--resume`` the runner
        takes the seed from the checkpoint, but it has built the sampler before.
        """
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if iterator is None or isinstance(iterator, AdvancedIterator):
            return
        sampler = runner.train_dataloader.sampler
        if runner.iter or getattr(sampler, 'seed', runner.seed) != runner.seed:
            restart_loader(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed this iteration."""
        seed_everything(runner.seed, MODEL, get_rank(), runner.iter)
