"""The interface of a teacher's box-prompted segmenter."""

from typing import Any, Protocol

from torch import Tensor


class BoxSegmenter(Protocol):
    """Any ``nn.Module`` with these two methods, registered in ``mmdet.registry``.

    One that takes rough masks as prompts, too, has an argument ``masks`` of
    :meth:`segment` more: what is known of each object, float (n, H, W), 1 inside, -1
    outside, 0 unknown; None for nothing.
    """

    def encode(self, image: Tensor) -> Any:
        """Compute once per image what does not depend on the boxes.

        Args:
            image: RGB, (3, H, W), uint8 or float in [0, 255].

        Returns:
            The image in the form that :meth:`segment` takes.
        """

    def segment(
        self, encoded: Any, boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:
        """Segment the objects in some boxes of the encoded image.

        Args:
            encoded: What :meth:`encode` returned.
            boxes: Float (n, 4), xyxy in pixels of the image; n >= 1. Not changed.
            size: The image's height and width in pixels.

        Returns:
            Logits, float (n, h, w), at any resolution, for the whole image; above 0 is
            the object. And how good each mask is, float (n,) in [0, 1]; None if the
            segmenter does not know.
        """
