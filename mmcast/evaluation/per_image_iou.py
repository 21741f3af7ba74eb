"""Average the mIoU of single images, as the research code of SwinMTL does.

Source: SwinMTL (arXiv 2403.10662), its evaluation code. These numbers are not those of
Cityscapes' benchmark, which takes the pixels of all images together: mmdet's
``SemSegMetric`` computes that.
"""

from collections.abc import Sequence
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from torch import Tensor


def image_scores(gt_N: Tensor, pred_N: Tensor) -> tuple[float, float]:
    """Compute the mIoU and the accuracy of one image.

    Args:
        gt_N: Labels ``(N,)`` int64, at least 0, N > 0.
        pred_N: Predicted labels ``(N,)`` int64, at least 0.

    Returns:
        The mean over the labels in ``gt_N`` of ``TP / (TP + FP + FN + 1e-6)``, and
        the share of pixels with the right label; both from 0 to 1.
    """
    size = int(max(gt_N.max(), pred_N.max())) + 1
    gt_C = gt_N.bincount(minlength=size).double()
    pred_C = pred_N.bincount(minlength=size).double()
    both_C = gt_N[gt_N == pred_N].bincount(minlength=size).double()
    iou_C = both_C / (gt_C + pred_C - both_C + 1e-6)
    return float(iou_C[gt_C > 0].mean()), float(both_C.sum() / len(gt_N))


@METRICS.register_module()
class PerImageSemSegMetric(BaseMetric):
    """Evaluate ``mIoU`` and ``pixel_acc`` of each image and average over images.

    The mIoU of an image is over the classes in its ground truth. A class that is only
    predicted counts just by the pixels that other classes lose. Both metrics are in
    percent.

    Each data sample holds the maps ``pred_sem_seg.sem_seg`` and
    ``gt_sem_seg.sem_seg``, int ``(1, H, W)``.

    Args:
        ignore_index: Pixels with this label in the ground truth do not count. Images
            that have no other pixels are skipped. None counts all pixels, as the
            research code does, which has "void" as a class.
        collect_device: Where results of ranks are collected, ``'cpu'`` or ``'gpu'``.
        prefix: Prefix of the names of metrics, ``'per_image'`` if None.
    """

    default_prefix = 'per_image'

    def __init__(
        self,
        ignore_index: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores of each image.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``pred_sem_seg`` and ``gt_sem_seg``, which hold
                ``sem_seg``, and with ``img_path`` for messages.

        Raises:
            ValueError: A map is missing, the two maps differ in shape, or a label that
                counts is negative.
        """
        for sample in data_samples:
            name = sample.get('img_path', 'an image without img_path')
            if 'gt_sem_seg' not in sample:
                raise ValueError(
                    f'{name} has no gt_sem_seg: the test pipeline needs '
                    'LoadAnnotations with with_seg=True'
                )
            if 'pred_sem_seg' not in sample:
                raise ValueError(
                    f'{name} has no pred_sem_seg: give a model that segments, or '
                    'remove PerImageSemSegMetric from the evaluators'
                )
            pred = sample['pred_sem_seg']['sem_seg'].long()
            gt = sample['gt_sem_seg']['sem_seg'].long().to(pred.device)
            if gt.shape != pred.shape:
                raise ValueError(
                    f'{name} has ground truth of shape {tuple(gt.shape)} and a '
                    f'prediction of shape {tuple(pred.shape)}: put LoadAnnotations '
                    'after Resize in the test pipeline, and predict in the original '
                    'size'
                )
            gt_N, pred_N = gt.flatten(), pred.flatten()
            if self.ignore_index is not None:
                counts_N = gt_N != self.ignore_index
                gt_N, pred_N = gt_N[counts_N], pred_N[counts_N]
            if (gt_N < 0).any() or (pred_N < 0).any():
                raise ValueError(
                    f'{name} has a negative label: give void a label of its own, or '
                    'its label as ignore_index'
                )
            # Every image has a result: mmengine counts them to drop padded images.
            self.results.append(image_scores(gt_N, pred_N) if len(gt_N) else ())

    def compute_metrics(
        self, results: list[tuple[float, float] | tuple[()]]
    ) -> dict[str, float]:
        """Average the scores of all images.

        Raises:
            ValueError: No image has a pixel that counts.
        """
        scored = [scores for scores in results if scores]
        if not scored:
            raise ValueError(
                f'none of {len(results)} images has a label other than '
                f'{self.ignore_index}: check the label files, and ignore_index of '
                'PerImageSemSegMetric'
            )
        miou, accuracy = (
            100 * sum(column) / len(scored) for column in zip(*scored, strict=True)
        )
        return dict(mIoU=miou, pixel_acc=accuracy)
