"""The interface of the network that the teacher-student wrapper trains."""

from collections.abc import Sequence
from typing import Protocol

from mmdet.structures import SampleList
from torch import Tensor

Losses = dict[str, Tensor]
Part = tuple[slice, SampleList]


class Student(Protocol):
    """A detector that takes its losses by parts of a batch.

    Like any detector of mmdet, it also has ``predict`` and ``loss``.
    """

    def losses(
        self, inputs: Tensor, parts: Sequence[Part]
    ) -> tuple[list[Losses], Losses]:
        """Compute the losses of a batch, in one forward pass or several.

        Args:
            inputs: Normalised, padded images, float (B, 3, H, W).
            parts: Slices of the batch with their samples. In order, they cover the
                batch. Each has its own matching and its own normaliser.

        Returns:
            The losses of each part, and those of the whole batch.
        """
