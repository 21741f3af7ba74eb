"""Colour distortion of the weak view, as the published codes have it."""

from typing import Any

from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import PhotoMetricDistortion
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorDistortion(PhotoMetricDistortion):
    """mmdet's ``PhotoMetricDistortion`` that keeps the order of the colours.

    mmdet's permutes the channels of half of the images, so a red car becomes blue.
    Neither detectron2's ``ColorAugSSD`` (CAST, Guided Distillation) nor albumentations
    (SwinMTL) does so. Values stay from 0 to 255; the published codes also clip between
    the steps.

    Args:
        kwargs: As mmdet's. ``hue_delta`` is in degrees; detectron2's 18 are steps of
            two degrees.
    """

    @cache_randomness
    def _random_flags(self) -> list[Any]:
        flags = [*super()._random_flags()]
        flags[5] = 0  # whether to permute
        return flags

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Distort the colours of ``img``, float32 (H, W, 3), BGR."""
        results = super().transform(results)
        results['img'] = results['img'].clip(0, 255)
        return results
