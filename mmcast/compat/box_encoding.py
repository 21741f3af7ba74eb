"""Let Grounding-DINO's decoder read the encoding of boxes that its fork makes.

What breaks: in onedl-mmdetection (3.5.1) DINO's decoder encodes a coordinate with as
many numbers as a query has, mmdet with half of them. Grounding-DINO's decoder inherits
this, but its `ref_point_head` still takes half, as the published weights do. So each
prediction ends with "mat1 and mat2 shapes cannot be multiplied".

The cure: the layer leaves out every second frequency. What it then reads is exactly
mmdet's encoding.

Remove it when the fork's decoder and layer agree.
"""

import functools
import inspect
from typing import Any

from torch import Tensor


def every_second_frequency(head: Any, args: tuple[Tensor]) -> tuple[Tensor]:
    """Halve the encoding, if it is twice as wide as the layer takes.

    Args:
        head: The decoder's ``ref_point_head``.
        args: The encoding (..., 4 * F): of each coordinate sine and cosine by turns,
            from high to low frequencies.
    """
    (encoding,) = args
    if encoding.shape[-1] != 2 * head.layers[0].in_features:
        return args
    waves = encoding.unflatten(-1, (4, -1, 2))
    return (waves[..., ::2, :].flatten(-3),)


def apply() -> None:
    """Change Grounding-DINO's decoder, if it inherits the wider encoding."""
    from mmdet.models.layers import DinoTransformerDecoder
    from mmdet.models.layers.transformer.grounding_dino_layers import (
        GroundingDinoTransformerDecoder as Decoder,
    )

    make = Decoder._init_layers
    if 'num_feats' not in inspect.getsource(DinoTransformerDecoder.forward):
        return
    if hasattr(make, '__wrapped__'):
        return

    @functools.wraps(make)
    def make_and_halve(self: Any) -> None:
        make(self)
        self.ref_point_head.register_forward_pre_hook(every_second_frequency)

    Decoder._init_layers = make_and_halve
