"""DPT as a pixel decoder for Mask2Former.

Source: DPT (arXiv 2103.13413), sections 3.1 and 3.2. Batch normalisation in the
residual units and the choice of outputs follow CAST's student (arXiv 2505.21904). The
deepest fusion block has no skip input, so its first residual unit is not built. Fusion
blocks project before they upsample, which is the same and takes a quarter of the time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .reassemble import Reassemble


class ResidualUnit(BaseModule):
    """``x + BN(conv(relu(BN(conv(relu(x))))))`` on (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.block(x)


class FusionBlock(BaseModule):
    """Add the skip to the deeper block's output, refine, project, upsample.

    Args:
        channels: Channels of both inputs and of the output.
        with_skip: Whether there is a skip input; the deepest block has none.
    """

    def __init__(self, channels: int, with_skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(channels) if with_skip else None
        self.unit = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        """Fuse (N, C, h, w) with its skip and resize to ``(N, C, *size)``."""
        if self.skip_unit is not None and skip is not None:
            x = x + self.skip_unit(skip)
        # Published in the opposite order; both are linear, bilinear weights sum to 1.
        x = self.project(self.unit(x))
        if tuple(x.shape[-2:]) != tuple(size):
            x = F.interpolate(x, tuple(size), mode='bilinear', align_corners=True)
        return x


class AddCoordinates(nn.Conv2d):
    """Add a linear map of x and y, from -1 to 1 over the map, to (N, C, H, W).

    Args:
        channels: C.
    """

    corners: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(2, channels, 1, bias=False)
        # x and y at the corners. torch exports what is interpolated between them for
        # any size, but not mmdet's `generate_coordinate`.
        corners = torch.tensor([[[-1.0, 1], [-1, 1]], [[-1, -1], [1, 1]]])[None]
        self.register_buffer('corners', corners, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        size = x.shape[-2:]
        places = F.interpolate(self.corners, size, mode='bilinear', align_corners=True)
        return x + super().forward(places)


@MODELS.register_module()
class DPTPixelDecoder(BaseModule):
    """Reassemble and fuse four backbone maps into Mask2Former's inputs.

    Args:
        in_channels: Channels of the backbone's four maps, finest first.
        feat_channels: Width of the fusion path and of all outputs.
        out_channels: Channels of the mask features; must equal ``feat_channels``,
            since DPT's last fusion is returned as it is.
        reassemble_channels: Channels of the reassembled pyramid for a plain
            transformer, whose maps share one resolution; None if the backbone
            is a pyramid already (ResNet, Swin).
        upsample_last: Whether masks have half the finest map's stride (as in CAST),
            else its stride. The upsampling itself is left to the masks: ``mask_scale``.
        coordinates: Whether to add a linear map of x and y, which go from -1 to 1 over
            the batch's images, to each of the four maps (CoordConv, arXiv 1807.03247).
            Masks need to know places. DINOv2 has position embeddings for that, a small
            ResNet has only the zeros of its padding.

    Raises:
        ValueError: ``out_channels`` differs from ``feat_channels``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        feat_channels: int,
        out_channels: int,
        reassemble_channels: Sequence[int] | None = None,
        upsample_last: bool = True,
        coordinates: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if out_channels != feat_channels:
            raise ValueError(
                f'DPTPixelDecoder: out_channels={out_channels} must equal '
                f'feat_channels={feat_channels}'
            )
        self.reassemble = (
            Reassemble(in_channels, reassemble_channels)
            if reassemble_channels is not None
            else None
        )
        self.mask_scale = 2 if upsample_last else 1
        self.laterals = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, feat_channels, 3, padding=1, bias=False),
                nn.Conv2d(feat_channels, feat_channels, 1),
            )
            for channels in (reassemble_channels or in_channels)
        )
        self.places = (
            nn.ModuleList(AddCoordinates(feat_channels) for _ in self.laterals)
            if coordinates
            else None
        )
        last = len(self.laterals) - 1
        self.fusions = nn.ModuleList(
            FusionBlock(feat_channels, with_skip=i < last) for i in range(last + 1)
        )

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return mask features and three maps for the masked decoder.

        Args:
            features: Four maps (N, C_i, h_i, w_i), finest (or first block) first.

        Returns:
            Mask features (N, C, H, W) before the last upsampling by ``mask_scale``, and
            the fused maps of the three coarser levels (N, C, ...), coarsest first. With
            a plain transformer of stride s they have stride s / 4 and s, s / 2, s / 4.
        """
        if self.reassemble is not None:
            features = self.reassemble(features)
        laterals = [
            lateral(x) for lateral, x in zip(self.laterals, features, strict=True)
        ]
        if self.places is not None:
            laterals = [
                place(x) for place, x in zip(self.places, laterals, strict=True)
            ]
        path = laterals[-1]
        paths = []
        for i in range(len(laterals) - 1, -1, -1):
            size = laterals[max(i - 1, 0)].shape[-2:]
            skip = laterals[i] if i < len(laterals) - 1 else None
            path = self.fusions[i](path, skip, size)
            paths.append(path)
        return paths[-1], paths[:-1]
