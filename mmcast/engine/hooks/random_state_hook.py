"""Random numbers of the model that depend on seed, rank and iteration alone."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcast.datasets.seeding import MODEL, seed_everything


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Seed random, numpy and torch before every iteration.

    No checkpoint holds the state of these generators. With this hook and
    ``PlacedInfiniteSampler`` a resumed run continues exactly.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Draw the images in the order of the run that is resumed.

        A run without ``randomness.seed`` draws a seed. Under ``--resume`` the runner
        takes the seed from the checkpoint, but it has built the sampler before.
        """
        loop, sampler = runner.train_loop, runner.train_dataloader.sampler
        if getattr(sampler, 'seed', runner.seed) != runner.seed:
            sampler.seed = runner.seed
            sampler.indices = sampler._indices_of_rank()
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed this iteration."""
        seed_everything(runner.seed, MODEL, get_rank(), runner.iter)
