"""Turn a plain transformer's maps of one resolution into a pyramid.

Source: DPT (arXiv 2103.13413), section 3.1, as in CAST's student.
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn


class Reassemble(BaseModule):
    """Project four maps of stride s and resize them to s/4, s/2, s and 2s.

    Args:
        in_channels: Channels of the four input maps.
        out_channels: Channels of the four output maps, finest first.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        self.projects = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 1)
            for c_in, c_out in zip(in_channels, out_channels, strict=True)
        )
        quarter, half, _, double = out_channels
        self.resizes = nn.ModuleList(
            (
                nn.ConvTranspose2d(quarter, quarter, 4, stride=4),
                nn.ConvTranspose2d(half, half, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(double, double, 3, stride=2, padding=1),
            )
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the pyramid, finest first.

        Args:
            features: Four maps (N, C_i, h, w) of equal size.

        Returns:
            Maps (N, O_i, ...) of sizes 4h, 2h, h and ceil(h / 2).
        """
        return [
            resize(project(x))
            for project, resize, x in zip(
                self.projects, self.resizes, features, strict=True
            )
        ]
