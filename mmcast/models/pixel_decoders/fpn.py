"""mmdet's FPN as a pixel decoder for Mask2Former (CAST, Table 5: DINOv2-S + FPN)."""

from collections.abc import Sequence

from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .reassemble import Reassemble


@MODELS.register_module()
class FPNPixelDecoder(BaseModule):
    """Reassemble the maps and build a feature pyramid; masks use its finest level.

    Args:
        in_channels: Channels of the backbone's four maps.
        feat_channels: Channels of the pyramid.
        out_channels: Channels of the mask features.
        reassemble_channels: As in :class:`DPTPixelDecoder`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        feat_channels: int,
        out_channels: int,
        reassemble_channels: Sequence[int] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.reassemble = (
            Reassemble(in_channels, reassemble_channels)
            if reassemble_channels is not None
            else None
        )
        channels = list(reassemble_channels or in_channels)
        self.fpn = FPN(channels, feat_channels, num_outs=len(channels))
        self.mask_feature = nn.Conv2d(feat_channels, out_channels, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return mask features (N, O, H, W) and three maps, coarsest first."""
        if self.reassemble is not None:
            features = self.reassemble(features)
        finest, *coarser = self.fpn(tuple(features))
        return self.mask_feature(finest), coarser[::-1]
