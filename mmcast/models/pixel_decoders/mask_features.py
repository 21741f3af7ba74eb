"""A pixel decoder of Mask2Former as the decoder of a dense task."""

from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor


@MODELS.register_module()
class MaskFeatures(BaseModule):
    """Return a pixel decoder's mask features alone.

    So :class:`SwinMTL` trains a Mask2Former's backbone and pixel decoder, which then
    start a student: ``Pretrained`` with the prefixes ``backbone.`` and
    ``decoder.pixel_decoder.``.

    Args:
        pixel_decoder: Config of a pixel decoder.
    """

    def __init__(self, pixel_decoder: dict) -> None:
        super().__init__()
        self.pixel_decoder = MODELS.build(pixel_decoder)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the backbone's maps to mask features, float (N, C, H, W)."""
        return self.pixel_decoder(features)[0]
