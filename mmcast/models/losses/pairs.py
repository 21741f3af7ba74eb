"""Which pixels may be each other's negatives, and their scores block by block.

Letters as in :mod:`mmcast.models.losses.scores`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .scores import debiased_scores

CANDIDATES = ('all', 'same_image', 'other_images')


@dataclass(frozen=True)
class Pixels:
    """Anchors or candidates, image after image, and what scores a pair of them.

    Attributes:
        z: Unit embeddings ``(A, D)`` float.
        same: Features for pairs within an image ``(A, F)``, see
            :func:`~mmcast.models.losses.scores.score_features`.
        cross: Features for pairs from different images ``(A, F)``.
        place: Number of the pixel in the batch, image after image, ``(A,)`` int64.
        counts: Number of pixels by image.
    """

    z: Tensor
    same: Tensor
    cross: Tensor
    place: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Pairing:
    """Which pairs may be negatives, and how strongly: the scores of blocks.

    Attributes:
        anchors: The anchors; their ``z`` is not used here.
        candidates: The candidates.
        which: One of :data:`CANDIDATES`.
    """

    anchors: Pixels
    candidates: Pixels
    which: str

    @cached_property
    def itself_A(self) -> Tensor:
        """Index of the candidate that is the anchor's own pixel; M without one."""
        place_M, order_M = self.candidates.place.sort()
        at_A = torch.searchsorted(place_M, self.anchors.place)
        at_A.clamp_(max=len(place_M) - 1)
        found_A = place_M[at_A] == self.anchors.place
        return torch.where(found_A, order_M[at_A], len(self.candidates.z))

    def row_blocks(self, size: int) -> list[tuple[int, slice]]:
        """List ranges of at most ``size`` anchors, each with its image."""
        return _blocks(self.anchors.counts, size)

    def column_blocks(self, image: int, size: int) -> list[tuple[bool, slice]]:
        """List ranges of candidates for an image's anchors; True for the same image."""
        counts = self.candidates.counts
        before, own = sum(counts[:image]), counts[image]
        runs = (before, own, len(self.candidates.z) - before - own)
        return [
            (run == 1, columns)
            for run, columns in _blocks(runs, size)
            if (self.which != 'same_image' or run == 1)
            and (self.which != 'other_images' or run != 1)
        ]

    def scores(
        self, own: bool, rows: slice, columns: slice, out: Tensor | None = None
    ) -> Tensor:
        """Compute the scores of a block ``(n, m)``; 0 for an anchor's own pixel."""
        if not own:
            y_nF, y_mF = self.anchors.cross[rows], self.candidates.cross[columns]
            return debiased_scores(y_nF, y_mF, out)
        y_nF, y_mF = self.anchors.same[rows], self.candidates.same[columns]
        s_nm = debiased_scores(y_nF, y_mF, out)
        self.clear_itself(s_nm, rows, columns)
        return s_nm

    def clear_itself(self, s_nm: Tensor, rows: slice, columns: slice) -> None:
        """Set the score of each anchor's own pixel to 0, in place."""
        # One entry per row, not a comparison of all pairs.
        itself_n1 = self.itself_A[rows, None] - columns.start
        within_n1 = (itself_n1 >= 0) & (itself_n1 < s_nm.shape[1])
        itself_n1.clamp_(0, s_nm.shape[1] - 1)
        rest_n1 = s_nm.gather(1, itself_n1).masked_fill_(within_n1, 0.0)
        s_nm.scatter_(1, itself_n1, rest_n1)


def unit_rows(z: Tensor, index: Sequence[Tensor]) -> Tensor:
    """Return unit embeddings ``(A, D)`` of pixels of each image, with a graph.

    Args:
        z: ``(B, D, h, w)`` float.
        index: For each image, pixels ``(P,)`` int64, row-major over the map.
    """
    z_BND = z.flatten(2).transpose(1, 2)
    rows_AD = torch.cat([z_BND[b, index_P] for b, index_P in enumerate(index)])
    # Not 1e-12: the gradient of an embedding that is zero stays within float16.
    return F.normalize(rows_AD, dim=-1, eps=1e-4)


def _blocks(counts: tuple[int, ...], size: int) -> list[tuple[int, slice]]:
    """Cut runs of the given lengths into ranges of at most ``size``."""
    found, start = [], 0
    for number, count in enumerate(counts):
        for first in range(start, start + count, size):
            found.append((number, slice(first, min(first + size, start + count))))
        start += count
    return found
