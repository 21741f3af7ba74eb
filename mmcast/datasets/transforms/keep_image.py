"""The image as it was loaded, for models that resize it in their own way."""

from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class KeepImage(BaseTransform):
    """Keep the image beside the one that later transforms resize.

    ``GroundedSam2`` wants it: detector and segmenter take different sizes of it. Put
    it right behind ``LoadImageFromFile`` and ``'image'`` into ``meta_keys`` of
    ``PackDetInputs``.

    Required keys: ``img`` (H x W x 3, uint8, BGR).

    Added keys: ``image``, the same array.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the key; what follows in a test pipeline makes new arrays."""
        results['image'] = results['img']
        return results
