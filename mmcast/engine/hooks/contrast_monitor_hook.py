"""Monitor how well the pixel contrast tells instances apart while it trains.

Source: CAST (arXiv 2505.21904), its empirical monitors: margin and false-negative rate.
Their code is not public; this follows the paper's figure, in cosines.
"""

from collections.abc import Callable
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmcast.models.losses import Grid, PixelContrastLoss
from mmcast.models.losses.contrast_figures import contrast_figures
from mmcast.models.pseudo_labels import masks_on_grid
from mmcast.models.unwrapped import unwrapped

ANCHORS = 1024


@HOOKS.register_module()
class ContrastMonitorHook(Hook):
    """Log statistics of the contrast's negatives to the runner's visualizer.

    Every ``interval`` iterations it draws new negatives for 1024 anchors of the batch,
    as the loss does with ``negatives='sampled'``, and writes

    * ``contrast/margin``: mean cosine to the positive minus mean cosine to the
      negatives;
    * ``contrast/fnr_gt``: share of the negatives that are on their anchor's
      instance, for anchors on a ground-truth instance of labelled images;
    * ``contrast/fnr_query``: the same for images without ground truth; the model's
      likeliest query for a pixel is the pixel's instance;
    * ``contrast/negatives/bin_00`` ... ``bin_09``: histogram of the negatives' cosines,
      bins of 0.2 from -1 upwards, shares that sum to one.

    A figure without any anchor is not written. With several ranks, only the first
    one's batch counts.

    Args:
        interval: Iterations between two measurements.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 100) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} must be at least 1')
        self.interval = interval
        self._remove: list[Callable[[], None]] = []
        self._seen: dict[str, Any] = {}

    def before_run(self, runner: Runner) -> None:
        """Check that there is something to measure.

        Raises:
            ValueError: The model has no pixel contrast.
        """
        if not self._losses(runner):
            raise ValueError(
                'ContrastMonitorHook finds no PixelContrastLoss in the model: give the '
                'model a pixel_contrast or remove the hook.'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Keep the loss's arguments, if this iteration is to be measured."""
        if not (self.every_n_train_iters(runner, self.interval) and is_main_process()):
            return
        loss = self._losses(runner)[0]

        def keep(module: Any, arguments: tuple[Any, ...]) -> None:
            names = ('weak', 'strong', 'masks', 'classes')
            found = dict(zip(names, arguments[:4], strict=True))
            self._seen.update((k, v.detach()) for k, v in found.items())
            self._seen['grid'] = arguments[4]

        def keep_size(module: Any, arguments: tuple[Tensor, ...]) -> None:
            self._seen.setdefault('size', tuple(arguments[0].shape[-2:]))

        model = unwrapped(runner.model)
        backbone = getattr(model, 'student', model).backbone
        self._remove = [
            loss.register_forward_pre_hook(keep).remove,
            backbone.register_forward_pre_hook(keep_size).remove,
        ]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Measure what was kept, and log it."""
        for remove in self._remove:
            remove()
        seen, self._remove, self._seen = self._seen, [], {}
        if 'weak' not in seen:
            return
        device, size = seen['weak'].device, seen.pop('size')
        devices = [device] if seen['weak'].is_cuda else []
        # Training must not depend on whether it is monitored.
        with torch.random.fork_rng(devices), torch.no_grad():
            # An online teacher that does not label yet leaves its images out.
            samples = _samples(data_batch['data_samples'])[: len(seen['weak'])]
            instances = [
                sample and instances_on_grid(sample, size, seen['grid']).to(device)
                for sample in samples
            ]
            figures = contrast_figures(
                self._losses(runner)[0],
                **seen,
                instances=instances,
                anchors=ANCHORS,
            )
        runner.visualizer.add_scalars(
            {f'contrast/{name}': value for name, value in figures.items()},
            step=runner.iter + 1,
        )

    @staticmethod
    def _losses(runner: Runner) -> list[PixelContrastLoss]:
        modules = unwrapped(runner.model).modules()
        return [m for m in modules if isinstance(m, PixelContrastLoss)]


def _samples(batch: Any) -> list[DetDataSample | None]:
    """List the batch's samples in the model's order; None for unlabelled ones."""
    if not isinstance(batch, dict):
        return list(batch)
    labeled = [sample for sample in batch['sup'] if sample is not None]
    unlabeled = [sample for sample in batch['unsup'] if sample is not None]
    return [*labeled, *(None for _ in unlabeled)]


def instances_on_grid(
    sample: DetDataSample, padded: tuple[int, int], grid: Grid
) -> Tensor:
    """Return the ground-truth instance at the centre of each cell of a map.

    Args:
        sample: Holds ``gt_instances.masks``, with or without padding.
        padded: Height and width that the image was padded to, right and below.
        grid: The map's cells over the padded image.

    Returns:
        ``(h * w,)`` int64, index of the instance; -1 on none.
    """
    masks = masks_on_grid(sample.gt_instances.masks, padded, grid)
    at_cells = masks.flatten(1).cpu()
    if not len(at_cells):
        return torch.full((len(grid.y) * len(grid.x),), -1)
    return torch.where(at_cells.any(0), at_cells.int().argmax(0), -1)
