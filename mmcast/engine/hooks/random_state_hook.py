"""A resumed run continues exactly, and at once."""

from collections.abc import Iterator
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmcast.datasets.seeding import MODEL, seed_everything
from mmcast.datasets.semi_supervised import with_pipelines
from mmcast.engine.loader import AdvancedIterator, restart_loader


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Make a resumed run continue exactly, and without reading images to skip them.

    No checkpoint holds the state of random, numpy and torch. So this hook seeds them
    before every iteration from seed, rank and iteration. ``LabeledUnlabeledSampler``
    and ``PlacedInfiniteSampler`` do the same for each sample, and in a loop that counts
    epochs so does any sampler that ends.

    Transforms that keep images of earlier samples, as mmdet's ``CachedMosaic``, make
    samples depend on what a worker has loaded before. The log names them in a warning.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Name transforms that keep images; give a loop that counts epochs its loader.

        The loader must come before the first epoch.
        """
        dataset = runner.train_loop.dataloader.dataset
        pipelines = [each.pipeline for each in with_pipelines(dataset)]
        if names := dict.fromkeys(_that_keep_images(pipelines)):
            runner.logger.warning(
                f'{" and ".join(names)} mix in images that the worker has loaded '
                'before, so neither --resume nor another num_workers gives the same '
                'training. For that, leave them out, or use CopyPaste in a '
                'MultiImageMixDataset (its Mosaic and MixUp do not mix masks)'
            )
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


def _that_keep_images(step: Any) -> Iterator[str]:
    """Yield the types of transforms that keep images, in a pipeline and deeper."""
    if isinstance(step, list | tuple):
        for each in step:
            yield from _that_keep_images(each)
    elif hasattr(step, 'results_cache'):
        yield type(step).__name__
    elif hasattr(step, 'transforms'):
        yield from _that_keep_images(step.transforms)
