"""What the teacher-student wrapper asks of the network that it trains."""

from collections.abc import Sequence
from typing import Protocol

from mmdet.structures import SampleList
from torch import Tensor

Losses = dict[str, Tensor]
Part = tuple[slice, SampleList]


class Student(Protocol):
    """A detector that takes its losses by parts of a batch.

    ``mmdet``'s ``predict`` and ``loss`` belong to it as to any detector.
    """

    def losses(
        self, inputs: Tensor, parts: Sequence[Part]
    ) -> tuple[list[Losses], Losses]:
        """Losses of a batch; the network decides on one forward pass or several.

        Args:
            inputs: Normalised, padded images, float (B, 3, H, W).
            parts: Slices of the batch with their samples. In order, they cover the
                batch. Each has its own matching and its own normaliser.

        Returns:
            The losses of each part, and those of the whole batch.
        """
