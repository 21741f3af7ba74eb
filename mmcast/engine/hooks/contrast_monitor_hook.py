"""Monitor how well the pixel contrast tells instances apart while it trains.

Source: CAST (arXiv 2505.21904), its empirical monitors: margin and false-negative rate.
Their code is not public; this follows the paper's figure, in cosines.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmcast.models.factored_masks import FactoredMasks, as_factored
from mmcast.models.losses import Grid, PixelContrastLoss
from mmcast.models.losses.draws import draw_pixels
from mmcast.models.losses.negatives import draw_negatives
from mmcast.models.losses.pairs import Pairing, Pixels
from mmcast.models.losses.scores import pixel_predictions
from mmcast.models.pseudo_labels import masks_on_grid
from mmcast.models.unwrapped import unwrapped

BINS = 10  # of the drawn negatives' cosines, between -1 and 1


@HOOKS.register_module()
class ContrastMonitorHook(Hook):
    """Log statistics of the contrast's negatives to the runner's visualizer.

    Every ``interval`` iterations it draws new negatives for some anchors of the batch,
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
        anchors: How many anchors to draw at most.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 100, anchors: int = 1024) -> None:
        if interval < 1 or anchors < 1:
            raise ValueError(
                f'interval={interval} and anchors={anchors} must be at least 1.'
            )
        self.interval = interval
        self.anchors = anchors
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

        backbone = self._detector(runner).backbone
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
        devices = [seen['weak'].device] if seen['weak'].is_cuda else []
        # Training must not depend on whether it is monitored.
        with torch.random.fork_rng(devices), torch.no_grad():
            samples = _samples(data_batch['data_samples'])
            figures = measure(self._losses(runner)[0], seen, samples, self.anchors)
        runner.visualizer.add_scalars(
            {f'contrast/{name}': value for name, value in figures.items()},
            step=runner.iter + 1,
        )

    @staticmethod
    def _detector(runner: Runner) -> Any:
        model = unwrapped(runner.model)
        return getattr(model, 'student', model)

    def _losses(self, runner: Runner) -> list[PixelContrastLoss]:
        modules = self._detector(runner).modules()
        return [m for m in modules if isinstance(m, PixelContrastLoss)]


def _samples(batch: Any) -> list[DetDataSample | None]:
    """List the batch's samples in the model's order; None for unlabelled ones."""
    if not isinstance(batch, dict):
        return list(batch)
    labeled = [sample for sample in batch['sup'] if sample is not None]
    unlabeled = [sample for sample in batch['unsup'] if sample is not None]
    return [*labeled, *(None for _ in unlabeled)]


def measure(
    loss: PixelContrastLoss,
    seen: dict[str, Any],
    samples: list[DetDataSample | None],
    anchors: int,
) -> dict[str, float]:
    """Compute the figures of one batch.

    Args:
        loss: The loss of this batch.
        seen: Its arguments, ``weak`` and ``strong`` (B, D, h, w), ``masks``,
            ``classes`` (B, K, C + 1) and ``grid``, and ``size``, height and width of
            the padded batch in pixels.
        samples: For each image, a sample with ground truth, or None.
        anchors: How many anchors to draw at most.

    Returns:
        Name to value, see :class:`ContrastMonitorHook`.
    """
    weak, strong, classes = (
        seen[name].float() for name in ('weak', 'strong', 'classes')
    )
    masks, grid = as_factored(seen['masks']), seen['grid']
    drawn, candidates, index_AR = draw(loss, weak, masks, classes, grid, anchors)
    instance_N = torch.cat(
        [
            own_queries(masks[b : b + 1], classes[b], grid)
            if sample is None
            else instances_on_grid(sample, seen['size'], grid).to(weak.device)
            for b, sample in enumerate(samples)
        ]
    )
    found_AR = index_AR < len(candidates.z)
    index_AR = index_AR.clamp(max=len(candidates.z) - 1)
    image_A, image_M = _images(drawn), _images(candidates)
    strong_ND = F.normalize(strong.flatten(2).transpose(1, 2).flatten(0, 1), dim=-1)
    pos_A = (drawn.z * strong_ND[drawn.place]).sum(1)
    cosine_AR = (drawn.z @ candidates.z.T).gather(1, index_AR)
    own_A, own_M = instance_N[drawn.place], instance_N[candidates.place]
    same_AR = (own_A[:, None] == own_M[index_AR]) & (
        image_A[:, None] == image_M[index_AR]
    )
    figures = {}
    if found_AR.any():
        has_A = found_AR.any(1)
        cosines = cosine_AR[found_AR]
        figures['margin'] = float(pos_A[has_A].mean() - cosines.mean())
        counts = cosines.clamp(-1, 1).histc(BINS, -1, 1)
        for i, share in enumerate((counts / counts.sum()).tolist()):
            figures[f'negatives/bin_{i:02d}'] = share
    labeled_B = torch.tensor([s is not None for s in samples], device=weak.device)
    for name, of_B in (('fnr_gt', labeled_B), ('fnr_query', ~labeled_B)):
        counted_AR = found_AR & (of_B[image_A] & (own_A >= 0))[:, None]
        if counted_AR.any():
            figures[name] = float(same_AR[counted_AR].float().mean())
    return figures


def draw(
    loss: PixelContrastLoss,
    weak: Tensor,
    masks: FactoredMasks,
    classes: Tensor,
    grid: Grid,
    anchors: int,
) -> tuple[Pixels, Pixels, Tensor]:
    """Draw negatives of some anchors of a batch.

    Args:
        loss: The loss; its settings are used.
        weak: (B, D, h, w) float.
        masks: Masks of K queries.
        classes: (B, K, C + 1) float.
        grid: Positions of the embeddings' cells.
        anchors: How many to draw at most.

    Returns:
        Anchors, candidates (the batch's own), and the index of each anchor's R drawn
        candidates (A, R) int64; M for a draw that found none.
    """
    drawn, among = (
        loss.take(
            weak,
            masks,
            classes,
            grid,
            draw_pixels(grid.parts, weak.shape[3], most, weak.device),
        )
        for most in (anchors, loss.max_candidates)
    )
    total = len(among.z)
    shape = (len(drawn.z), loss.num_negatives)
    index_AR = torch.full(shape, total, device=weak.device)
    for rows, span, s_nm, index_nR in draw_negatives(
        Pairing(drawn, among, loss.candidates),
        loss.num_negatives,
        loss.replacement,
        loss.score_floor,
    ):
        index_AR[rows, : index_nR.shape[1]] = torch.where(
            index_nR < s_nm.shape[1], index_nR + span.start, total
        )
    return drawn, among, index_AR


def _images(pixels: Pixels) -> Tensor:
    """Return the image of each pixel, int64."""
    counts = torch.tensor(pixels.counts, device=pixels.z.device)
    return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)


def own_queries(masks: FactoredMasks, classes: Tensor, grid: Grid) -> Tensor:
    """Return the query that each cell of one image belongs to most, ``(h * w,)``."""
    every = torch.arange(len(grid.y) * len(grid.x), device=classes.device)
    read = masks.at_points(grid.points(every)[None], 'border')
    p_PK, _ = pixel_predictions(read[0], classes)
    return p_PK.argmax(1)


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
