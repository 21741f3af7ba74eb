"""Positions of a map's cells in a padded batch, and which of them show an image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Grid(NamedTuple):
    """Centres of a map's cells, and the part of the map that each image covers.

    Attributes:
        y: Vertical centres ``(h,)`` float64 on the CPU, 0 to 1 over the padded height.
        x: Horizontal centres ``(w,)``, the same over the padded width.
        parts: For each image, the rows and columns of cells with their centre inside
            it. Images are at the top left; what follows is padding.
    """

    y: Tensor
    x: Tensor
    parts: tuple[tuple[int, int], ...]

    @classmethod
    def of_map(
        cls,
        cells: tuple[int, int],
        sizes: Sequence[tuple[int, int]],
        padded: tuple[int, int],
        pool: int = 1,
    ) -> 'Grid':
        """Describe a map over a padded batch, or that map after average pooling.

        Args:
            cells: Height and width of the map before pooling; its cells tile the
                padded image evenly.
            sizes: Height and width of each image in pixels, without padding.
            padded: Height and width of the batch in pixels.
            pool: Factor of ``avg_pool2d(pool, ceil_mode=True)``. The last cell may
                pool fewer, so its centre is closer to its neighbour's.
        """
        y, x = (
            F.avg_pool1d(
                (torch.arange(n, dtype=torch.float64)[None] + 0.5) / n,
                pool,
                ceil_mode=True,
            )[0]
            for n in cells
        )
        parts = tuple(
            (
                max(1, int((y * padded[0] < h).sum())),
                max(1, int((x * padded[1] < w).sum())),
            )
            for h, w in sizes
        )
        return cls(y, x, parts)

    @classmethod
    def without_padding(cls, images: int, cells: tuple[int, int]) -> 'Grid':
        """Describe a map of unpadded images."""
        return cls.of_map(cells, [(1, 1)] * images, (1, 1))

    def points(self, index_P: Tensor) -> Tensor:
        """Return centres of cells as (x, y), ``(P, 2)`` float64, 0 to 1.

        Args:
            index_P: Cells, row-major, int64, on any device.
        """
        width = len(self.x)
        x_w, y_h = self.x.to(index_P.device), self.y.to(index_P.device)
        return torch.stack([x_w[index_P % width], y_h[index_P // width]], dim=-1)
