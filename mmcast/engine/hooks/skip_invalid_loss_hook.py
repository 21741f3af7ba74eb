"""Skip a step whose loss is not finite; stop a run in which they follow each other."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from mmcast.checkpoints import not_finite
from mmcast.engine.lineage import last_finite
from mmcast.models.unwrapped import unwrapped


@HOOKS.register_module()
class SkipInvalidLossHook(Hook):
    """Leave the weights alone if the loss of a batch is NaN or infinite.

    The log gets the names of the batch's images. If the loss is invalid on one rank,
    all ranks skip. With accumulated gradients, those of the whole step are dropped.
    With several optimisers, each skips its own losses. Steps that a gradient scaler
    skips have a finite loss and do not count.

    Args:
        patience: So many invalid steps in a row end the run.
    """

    def __init__(self, patience: int = 10) -> None:
        if patience < 1:
            raise ValueError(f'patience={patience}: give at least 1')
        self.patience = patience
        self.in_a_row = self.skipped = 0
        self.images: list[str] = []
        self.found: list[str] = []  # invalid losses of this iteration, with images
        self.dropped: set[int] = set()  # optimisers whose step has an invalid part

    def before_train(self, runner: Runner) -> None:
        """Put a check before each optimiser's update."""
        wrappers = runner.optim_wrapper
        several = isinstance(wrappers, OptimWrapperDict)
        for wrapper in wrappers.values() if several else [wrappers]:
            update = partial(self._update, wrapper, wrapper.update_params)
            wrapper.update_params = update

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Keep the names of the batch's images."""
        self.images = [*_images(data_batch)]
        self.found = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Name what was skipped; end the run if it cannot get better.

        Raises:
            FloatingPointError: Too many in a row, or a weight is not finite, as after
                a step with a finite loss and an invalid gradient.
        """
        if not self.found:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        self.skipped += 1
        runner.logger.warning(
            f'Step {runner.iter + 1} is skipped, since {"; ".join(self.found)}'
        )
        broken = not_finite(unwrapped(runner.model).state_dict())
        if broken or self.in_a_row >= self.patience:
            self._stop(runner, runner.iter + 1, broken)

    def after_train(self, runner: Runner) -> None:
        """Say how many steps were skipped, before anything is exported.

        Raises:
            FloatingPointError: The last step left a weight that is not finite. Buffers
                do not count: some detectors keep an infinite one.
        """
        broken = not_finite(dict(unwrapped(runner.model).named_parameters()))
        if broken:
            self._stop(runner, runner.iter, broken)
        if self.skipped:
            runner.logger.warning(
                f'{self.skipped} of {runner.iter} steps were skipped: their loss was '
                'not finite'
            )

    def _update(
        self,
        wrapper: OptimWrapper,
        update: Callable[..., None],
        loss: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        here = (~torch.isfinite(loss.detach())).any().float()
        anywhere = here.clone()
        all_reduce(anywhere, 'max')
        if anywhere:
            images = ', '.join(self.images) or 'unknown'
            text = f'its loss is {loss.item()}; its images: {images}'
            self.found += filter(None, all_gather_object(text if here else ''))
            self.dropped.add(id(wrapper))
        if id(wrapper) not in self.dropped:
            update(loss, *args, **kwargs)
            return
        wrapper._inner_count += 1
        if wrapper.should_update():
            wrapper.zero_grad()
            self.dropped.discard(id(wrapper))

    def _stop(self, runner: Runner, iteration: int, broken: str | None) -> None:
        """End the run.

        Raises:
            FloatingPointError: Always; it names the last checkpoint that is finite.
        """
        good = last_finite(runner.work_dir)
        reason = (
            f'{broken} is no longer finite'
            if broken
            else f'{self.in_a_row} losses in a row are not finite'
        )
        remedy = (
            f'the last good checkpoint is {good}: lower the learning rate, then '
            f'continue with --resume {good}'
            if good
            else 'this run has saved no checkpoint with finite weights: lower the '
            'learning rate and start again'
        )
        raise FloatingPointError(
            f'stopped at iteration {iteration}: {reason}; {remedy}'
        )


def _images(node: Any) -> Iterator[str]:
    """Yield the image of each data sample in a batch."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        for part in node:
            yield from _images(part)
    elif hasattr(node, 'img_path'):
        yield node.img_path
