"""Depth: its code between 0 and 1, and the scale-invariant logarithmic loss.

Source: SwinMTL (arXiv 2403.10662). The loss is that of Eigen et al. (arXiv 1406.2283).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DepthCode:
    """A number between 0 and 1 for each depth between two bounds.

    The same bounds encode and decode. Logarithmic: ``low * (high / low) ** code``;
    linear: ``low + (high - low) * code``.

    Args:
        low: Depth of code 0 in metres, positive.
        high: Depth of code 1 in metres.
        log: Whether the code is logarithmic.

    Raises:
        ValueError: Not 0 < low < high.
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(
                f'depth_range is ({self.low}, {self.high}): give two depths in '
                'metres, 0 < nearest < farthest'
            )

    def decode(self, code: Tensor) -> Tensor:
        """Return metres for codes in [0, 1], float, any shape."""
        if self.log:
            return self.low * torch.exp(code * math.log(self.high / self.low))
        return self.low + (self.high - self.low) * code

    def encode(self, depth: Tensor) -> Tensor:
        """Return codes in [0, 1] for metres, float, any shape; bounds are clamped."""
        depth = depth.clamp(self.low, self.high)
        if self.log:
            return (depth / self.low).log() / math.log(self.high / self.low)
        return (depth - self.low) / (self.high - self.low)


def silog_loss(
    pred: Tensor, target: Tensor, variance_focus: float = 0.5, eps: float = 1e-8
) -> Tensor:
    """Return the scale-invariant logarithmic error of valid pixels.

    sqrt(mean(g ** 2) - variance_focus * mean(g) ** 2 + eps), g = ln target - ln pred.

    Args:
        pred: Depths, float (n,), positive.
        target: Depths, float (n,), positive.
        variance_focus: 0 for the root mean square, 1 for the standard deviation.
        eps: Keeps the gradient finite where both are equal. The research code has 0.

    Returns:
        Scalar; exactly 0, with a gradient of 0, if there is no pixel.
    """
    if pred.numel() == 0:
        return pred.sum()
    g = target.log() - pred.log()
    mean = g.mean()
    # The difference of two means of squares can round to less than -eps.
    variance = (g - mean).square().mean()
    return (variance + (1 - variance_focus) * mean.square() + eps).sqrt()
