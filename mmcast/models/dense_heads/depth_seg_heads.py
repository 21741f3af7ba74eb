"""SwinMTL's two heads: depth and semantic labels, two convolutions each."""

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn
from torch.nn import functional as F

from mmcast.models.losses.depth import DepthCode, silog_loss

IGNORED = 255


class TwoConvHead(BaseModule):
    """A 3x3 convolution, ReLU, and a 3x3 convolution to the outputs.

    Args:
        in_channels: Channels of the decoder's map, and of the hidden one.
        out_channels: Number of outputs.
        init_std: Standard deviation of the first weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        init_std: float = 0.001,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
        )
        initialize(self, dict(type='Normal', layer='Conv2d', std=init_std))

    def forward(self, x: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
        """Return the outputs of every pixel.

        Args:
            x: The decoder's map, float (N, C, h, w).
            size: Height and width of the image.
            stride: Pixels of the image per pixel of the map. The map may cover more
                than the image, on the right and below.

        Returns:
            float32 ``(N, out_channels, *size)``.
        """
        outputs = self.layers(x).float()
        if stride != 1:
            outputs = F.interpolate(outputs, scale_factor=stride, mode='bilinear')
        return outputs[..., : size[0], : size[1]]


@MODELS.register_module()
class DepthHead(TwoConvHead):
    """Predict depth in metres.

    Args:
        in_channels: Channels of the decoder's map.
        depth_range: Nearest and farthest depth in metres, (1e-3, 80) outdoors and
            (1e-3, 10) indoors. The same pair encodes and decodes.
        log_depth: Whether the output is the position of ln d between the bounds, else
            that of d.
        eps: Of the loss, see :func:`silog_loss`.
        cap_targets: Whether pixels at or beyond the farthest depth do not count. The
            research code clips them there and counts them.
        loss_weight: Factor on the loss.
        init_std: Standard deviation of the first weights.
    """

    def __init__(
        self,
        in_channels: int = 128,
        depth_range: Sequence[float] = (1e-3, 80.0),
        log_depth: bool = True,
        eps: float = 1e-8,
        cap_targets: bool = True,
        loss_weight: float = 1.0,
        init_std: float = 0.001,
    ) -> None:
        super().__init__(in_channels, 1, init_std)
        self.code = DepthCode(depth_range[0], depth_range[1], log_depth)
        self.eps = eps
        self.cap_targets = cap_targets
        self.loss_weight = loss_weight

    def depth(self, outputs: Tensor) -> Tensor:
        """Return metres for the head's outputs, float (N, 1, H, W)."""
        return self.code.decode(outputs.sigmoid())

    def valid(self, target: Tensor) -> Tensor:
        """Return which depths count, bool in the shape of ``target``, metres."""
        valid = target > 0
        return valid & (target < self.code.high) if self.cap_targets else valid

    def loss(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the loss over all valid pixels of the batch.

        Args:
            outputs: As forward returns, float (N, 1, H, W).
            target: Metres, 0 for no measurement, float (N, 1, H, W).
        """
        valid = self.valid(target)
        pred = self.depth(outputs)[valid]
        loss = silog_loss(pred, target[valid], eps=self.eps)
        return {'loss_depth': self.loss_weight * loss}


@MODELS.register_module()
class SemSegHead(TwoConvHead):
    """Predict a class for every pixel.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the decoder's map.
        loss_weight: Factor on the cross-entropy.
        init_std: Standard deviation of the first weights.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 128,
        loss_weight: float = 1.0,
        init_std: float = 0.001,
    ) -> None:
        super().__init__(in_channels, num_classes, init_std)
        self.num_classes = num_classes
        self.loss_weight = loss_weight

    def loss(self, outputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the mean cross-entropy of all labelled pixels; 0 without any.

        Args:
            outputs: Logits, float (N, num_classes, H, W).
            target: Classes, 255 for none, int64 (N, 1, H, W).
        """
        labels = target[:, 0]
        total = F.cross_entropy(outputs, labels, ignore_index=IGNORED, reduction='sum')
        count = (labels != IGNORED).sum().clamp(min=1)
        return {'loss_seg': self.loss_weight * total / count}


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Return indicators of the classes, float (N, num_classes, H, W); 0 where ignored.

    Args:
        labels: Classes, 255 for none, int64 (N, 1, H, W).
        num_classes: Number of classes.
    """
    shown = torch.arange(num_classes, device=labels.device).view(1, -1, 1, 1)
    return (labels == shown).float()
