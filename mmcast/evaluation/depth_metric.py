"""Compare depth maps with measured depth, as papers on monocular depth do.

Source: the error measures of Eigen et al. (arXiv 1406.2283) and of the KITTI depth
benchmark (SILog). Predictions keep their scale: no median scaling.

Letters in names give the axes: N valid pixels, S sums, M images.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

LEAST_DEPTH = 1e-3  # in metres; nearer is "no measurement"


def depth_sums(gt_N: Tensor, pred_N: Tensor) -> Tensor:
    """Sum the errors of pixels; all metrics follow from these sums.

    Args:
        gt_N: Measured depth ``(N,)`` in metres, positive. N may be 0.
        pred_N: Predicted depth ``(N,)`` in metres, positive.

    Returns:
        Float64 ``(10,)``, with ``e = ln p - ln g`` the sums of 1 (the number of
        pixels), ``|p - g| / g``, ``(p - g)^2 / g``, ``(p - g)^2``, ``|log10 p -
        log10 g|``, ``e``, ``e^2``, and the numbers of pixels with
        ``max(g / p, p / g)`` below 1.25, 1.25^2 and 1.25^3.
    """
    g, p = gt_N.double(), pred_N.double()
    error = p - g
    e = p.log() - g.log()
    ratio = torch.maximum(g / p, p / g)
    sums = (
        g.new_tensor(len(g)),
        (error.abs() / g).sum(),
        (error.square() / g).sum(),
        error.square().sum(),
        e.abs().sum() / math.log(10),
        e.sum(),
        e.square().sum(),
        *((ratio < 1.25**k).sum() for k in (1, 2, 3)),
    )
    return torch.stack([total.double() for total in sums])


def depth_metrics(
    sums_MS: Tensor, silog_lambda: float = 1.0, silog_scale: float = 100.0
) -> dict[str, Tensor]:
    """Compute the metrics of each row of sums.

    Args:
        sums_MS: Rows of :func:`depth_sums`, or sums of such rows, ``(M, 10)`` float64.
        silog_lambda: Weight of the squared mean error in SILog.
        silog_scale: Factor of SILog.

    Returns:
        Float64 ``(M,)`` for each name: ``abs_rel``, ``sq_rel`` and ``rmse`` in metres,
        ``rmse_log``, ``log10``, ``silog``, and ``d1``, ``d2``, ``d3`` from 0 to 1.
    """
    abs_rel, sq_rel, square, log10, e, ee, d1, d2, d3 = (
        sums_MS[:, 1:] / sums_MS[:, :1]
    ).unbind(1)
    # Rounding can make the variance of a constant error negative.
    spread = (ee - silog_lambda * e.square()).clamp(min=0)
    return dict(
        abs_rel=abs_rel,
        sq_rel=sq_rel,
        rmse=square.sqrt(),
        rmse_log=ee.sqrt(),
        log10=log10,
        silog=silog_scale * spread.sqrt(),
        d1=d1,
        d2=d2,
        d3=d3,
    )


@METRICS.register_module()
class DepthMetric(BaseMetric):
    """Evaluate depth in metres.

    Each data sample holds the maps ``pred_depth.depth`` and ``gt_depth.depth``, float
    ``(1, H, W)`` in metres; 0 in the ground truth is "no measurement". A pixel is valid
    if its ground truth is strictly between 1 mm and ``max_depth``. Predictions are
    clamped to these bounds. Metrics are averaged over images, as in most papers; images
    without a valid pixel are skipped.

    Lower is better for ``abs_rel``, ``sq_rel``, ``rmse``, ``rmse_log``, ``log10`` and
    ``silog``. Higher is better for ``d1``, ``d2`` and ``d3``.

    Args:
        max_depth: Only smaller depths count, in metres: 80 outdoors, 10 for NYUv2.
        crop: ``(top, bottom, left, right)``, the rows and columns that count, the
            second of each excluded. Eigen's crop of NYUv2 is ``(45, 471, 41, 601)``.
            None takes the whole image.
        silog_lambda: Weight of the squared mean error in SILog, from 0 to 1. It is 1 in
            KITTI's benchmark and 0.5 in SwinMTL's code.
        silog_scale: Factor of SILog, 100 in KITTI's benchmark and 1 in SwinMTL's code.
        collect_device: Where results of ranks are collected, ``'cpu'`` or ``'gpu'``.
        prefix: Prefix of the names of metrics, ``'depth'`` if None.

    Raises:
        ValueError: A value is not as above.
    """

    default_prefix = 'depth'

    def __init__(
        self,
        max_depth: float = 80.0,
        crop: Sequence[int] | None = None,
        silog_lambda: float = 1.0,
        silog_scale: float = 100.0,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not max_depth > LEAST_DEPTH:
            raise ValueError(
                f'max_depth is {max_depth}: give metres, more than {LEAST_DEPTH}'
            )
        if crop is not None and not (
            len(crop) == 4 and 0 <= crop[0] < crop[1] and 0 <= crop[2] < crop[3]
        ):
            raise ValueError(
                f'crop is {tuple(crop)}: give (top, bottom, left, right) with '
                '0 <= top < bottom and 0 <= left < right'
            )
        if not 0 <= silog_lambda <= 1:
            raise ValueError(f'silog_lambda is {silog_lambda}: give 0 to 1')
        self.max_depth = max_depth
        self.crop = crop
        self.silog_lambda = silog_lambda
        self.silog_scale = silog_scale

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the sums of each image.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``pred_depth`` and ``gt_depth``, which hold
                ``depth``, and with ``img_path`` for messages.

        Raises:
            ValueError: A map is missing, the two maps differ in shape, the crop is
                larger than the image, or a predicted depth is NaN or infinite.
        """
        for sample in data_samples:
            name = sample.get('img_path', 'an image without img_path')
            gt, pred = self._maps(sample, name)
            # In the maps' own precision: float32 of 0.001 is more than 0.001.
            valid = (gt > LEAST_DEPTH) & (gt < self.max_depth)
            pred_N = pred[valid].double().clamp(LEAST_DEPTH, self.max_depth)
            # Every image has a result: mmengine counts them to drop padded images.
            self.results.append(depth_sums(gt[valid], pred_N).cpu())

    def _maps(self, sample: dict, name: str) -> tuple[Tensor, Tensor]:
        """Return the checked and cropped maps, both on the prediction's device."""
        if 'gt_depth' not in sample:
            raise ValueError(
                f'{name} has no gt_depth: the test pipeline needs LoadDepth and '
                'PackDepthInputs'
            )
        if 'pred_depth' not in sample:
            raise ValueError(
                f'{name} has no pred_depth: give a model that predicts depth, or '
                'remove DepthMetric from the evaluators'
            )
        pred = sample['pred_depth']['depth']
        gt = sample['gt_depth']['depth'].to(pred.device)
        if gt.shape != pred.shape:
            raise ValueError(
                f'{name} has ground truth of shape {tuple(gt.shape)} and a prediction '
                f'of shape {tuple(pred.shape)}: put LoadDepth after Resize in the test '
                'pipeline, and predict depth in the original size'
            )
        if not pred.isfinite().all():
            raise ValueError(
                f'the predicted depth of {name} has '
                f'{int((~pred.isfinite()).sum())} NaN or infinite values: find the '
                'layer that makes them, or predict in float32'
            )
        if self.crop is None:
            return gt, pred
        top, bottom, left, right = self.crop
        height, width = gt.shape[-2:]
        if bottom > height or right > width:
            raise ValueError(
                f'crop {tuple(self.crop)} is larger than {name}, which has {height} '
                f'rows and {width} columns: give the crop of this dataset, or None'
            )
        return gt[..., top:bottom, left:right], pred[..., top:bottom, left:right]

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Compute the metrics from the sums of all images.

        Raises:
            ValueError: No image has a valid pixel.
        """
        measured = [sums for sums in results if sums[0] > 0]
        if not measured:
            raise ValueError(
                f'none of {len(results)} images has depth between {LEAST_DEPTH} and '
                f'{self.max_depth} m: check the scale of the depth files, and '
                'max_depth and crop of DepthMetric'
            )
        if len(measured) < len(results):
            print_log(
                f'DepthMetric skipped {len(results) - len(measured)} of '
                f'{len(results)} images, which have no valid depth',
                logger='current',
                level=logging.WARNING,
            )
        found = depth_metrics(
            torch.stack(measured), self.silog_lambda, self.silog_scale
        )
        return {name: float(values.mean()) for name, values in found.items()}
