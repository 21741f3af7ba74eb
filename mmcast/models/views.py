"""The strong view: a photometric change of a batch, on the batch's device.

Source: CAST (arXiv 2505.21904) and its research code, whose values are the defaults
here; Guided Distillation's are ``jitter_prob=0.8, grayscale_prob=0.2, blur_prob=0.5``.
No pixel moves, so a location means the same in both views.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn
from torchvision.transforms import v2


@MODELS.register_module()
class StrongView(nn.Module):
    """Colour jitter, grayscale and blur, drawn separately for each image of a batch.

    torchvision's transforms draw once per call, so images are transformed one by one.
    At training sizes this costs nothing on a CPU, and a few hundred short kernels per
    batch on a GPU. Random numbers come from torch's global CPU generator, so that
    nothing waits for the device.

    Args:
        mean: Mean of the three channels, in [0, 255], that the data preprocessor
            subtracts.
        std: Standard deviation that it divides by.
        bgr: Whether the channels are blue, green, red.
        brightness: Jitter as in :class:`torchvision.transforms.v2.ColorJitter`: a
            factor from ``[1 - x, 1 + x]``, or from a pair ``(low, high)``.
        contrast: The same.
        saturation: The same.
        hue: Shift in turns, from ``[-x, x]`` or from a pair, within [-0.5, 0.5].
        jitter_prob: Probability of the four, applied in random order.
        grayscale_prob: Probability of grayscale.
        blur_kernel: Odd side of the Gaussian's window, in pixels.
        blur_sigma: Range of the Gaussian's deviation, in pixels.
        blur_prob: Probability of the blur.

    Raises:
        ValueError: An argument is out of its range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        bgr: bool = False,
        brightness: float | Sequence[float] = 0.4,
        contrast: float | Sequence[float] = 0.4,
        saturation: float | Sequence[float] = 0.4,
        hue: float | Sequence[float] = 0.1,
        jitter_prob: float = 1.0,
        grayscale_prob: float = 0.2,
        blur_kernel: int = 5,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        blur_prob: float = 1.0,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f'mean={mean} and std={std} must be three numbers each, std '
                "positive; copy the data preprocessor's."
            )
        # Not in the state dict: a constant of the configuration, as in mmdet.
        for name, values in (('mean', mean), ('std', std)):
            channels = torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, channels, persistent=False)
        self.bgr = bgr
        self.least = blur_kernel // 2 + 1  # pixels of a side, for the blur's reflection
        jitter = v2.ColorJitter(brightness, contrast, saturation, hue)
        blur = v2.GaussianBlur(blur_kernel, blur_sigma)
        self.transform = v2.Compose(
            [
                v2.RandomApply([jitter], jitter_prob),
                v2.RandomGrayscale(grayscale_prob),
                v2.RandomApply([blur], blur_prob),
            ]
        )

    @torch.no_grad()
    def forward(
        self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Tensor:
        """Return the strong view of a batch.

        Args:
            images: ``(B, 3, H, W)`` float16, bfloat16 or float32, normalised by
                ``mean`` and ``std``.
            sizes: Height and width of each image; what is below and right of it is
                padding and stays as it is. None for images without padding.

        Returns:
            A new tensor of the same shape, dtype and device, without a graph. Values
            outside [0, 255] before normalisation are clamped.
        """
        strong = images.clone()
        height, width = images.shape[2:]
        with torch.autocast(images.device.type, enabled=False):
            for view, (h, w) in zip(
                strong, sizes or [(height, width)] * len(images), strict=True
            ):
                colours = view[:, :h, :w].float().mul(self.std).add_(self.mean)
                if self.bgr:
                    colours = colours.flip(0)
                colours = colours.div_(255).clamp_(0, 1)
                right, below = max(self.least - w, 0), max(self.least - h, 0)
                if right or below:
                    colours = F.pad(colours[None], (0, right, 0, below), 'replicate')[0]
                colours = self.transform(colours).clamp(0, 1)[:, :h, :w]
                if self.bgr:
                    colours = colours.flip(0)
                colours = colours.mul_(255).sub_(self.mean).div_(self.std)
                view[:, :h, :w] = colours
        return strong


def normalization(data_preprocessor: Any) -> dict[str, Any]:
    """Return what mmdet's data preprocessor does to colours.

    Returns:
        ``mean`` and ``std`` in [0, 255], in the batch's order of channels, and ``bgr``,
        whether that is blue, green, red. Images are loaded so.
    """
    plain = not data_preprocessor._enable_normalize
    return dict(
        mean=[0.0] * 3 if plain else data_preprocessor.mean.flatten().tolist(),
        std=[1.0] * 3 if plain else data_preprocessor.std.flatten().tolist(),
        bgr=not data_preprocessor._channel_conversion,
    )


def renormalize(images: Tensor, given: Any, wanted: Any) -> Tensor:
    """Give images the colours of another data preprocessor.

    Args:
        images: ``(..., 3, H, W)``, without padding.
        given: mmdet's data preprocessor that normalised them.
        wanted: The other one.

    Returns:
        A new tensor, unless neither of the two changes colours.
    """
    if given._enable_normalize:
        images = images * given.std + given.mean
    if given._channel_conversion != wanted._channel_conversion:
        images = images.flip(-3)
    if wanted._enable_normalize:
        images = (images - wanted.mean) / wanted.std
    return images
