"""Keep the image as loaded, for models that resize it themselves."""

from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class KeepImage(BaseTransform):
    """Keep the loaded image next to the one that later transforms resize.

    ``GroundedSam2`` needs it, since its detector and segmenter take different sizes.
    Put it right after ``LoadImageFromFile``, and add ``'image'`` to ``meta_keys`` of
    ``PackDetInputs``.

    Required keys: ``img`` (H x W x 3, uint8, BGR).

    Added keys: ``image``, the same array.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the key; later transforms of a test pipeline make new arrays."""
        results['image'] = results['img']
        return results
