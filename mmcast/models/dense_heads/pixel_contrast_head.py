"""The pixel contrast of two views: strong view, projection, loss (CAST, section 2)."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.losses import PRESETS, Grid


@MODELS.register_module()
class PixelContrastHead(BaseModule):
    """A pixel-wise MLP on one encoder map of each view, and the loss on it.

    The weak view carries the gradient to the encoder. The strong view passes the
    encoder without gradient (as in CAST's research code) and then the same MLP.

    Args:
        in_channels: Channels of the encoder map.
        mean: Mean of the three channels that the data preprocessor subtracts.
        std: Standard deviation that it divides by.
        loss: Config of the loss on the embeddings; its ``loss_weight`` is the
            method's lambda_pxl. It overrides the preset.
        bgr: Whether the channels are blue, green, red.
        preset: Name of the settings in :data:`mmcast.models.losses.PRESETS`.
        strong_view: Config of the photometric strong view.
        embed_channels: Channels of hidden layers and embeddings.
        num_layers: Linear layers of the MLP, without bias.
        in_index: Which of the encoder's maps is used.
        downsample: Factor of average pooling before the MLP.
        frozen_strong_mlp: Whether the strong view passes a copy of the initial MLP that
            never learns, without gradient; None for the preset's choice (True only for
            the research code's).

    Raises:
        ValueError: There is no such preset.
    """

    def __init__(
        self,
        in_channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        loss: dict[str, Any],
        bgr: bool = False,
        preset: str = 'default',
        strong_view: dict[str, Any] | None = None,
        embed_channels: int = 128,
        num_layers: int = 3,
        in_index: int = -1,
        downsample: int = 1,
        frozen_strong_mlp: bool | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if preset not in PRESETS:
            raise ValueError(
                f'preset={preset!r} is unknown; choose one of {tuple(PRESETS)}.'
            )
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, embed_channels, 1, bias=False)
        ]
        for _ in range(num_layers - 1):
            layers += [
                nn.ReLU(),
                nn.Conv2d(embed_channels, embed_channels, 1, bias=False),
            ]
        self.mlp = nn.Sequential(*layers)
        if frozen_strong_mlp is None:
            frozen_strong_mlp = preset == 'research_code'
        self.strong_mlp: nn.Module | None = None
        if frozen_strong_mlp:
            self.strong_mlp = copy.deepcopy(self.mlp).requires_grad_(False)
        self.strong_view = MODELS.build(
            strong_view or dict(type='StrongView'),
            default_args=dict(mean=mean, std=std, bgr=bgr),
        )
        self.contrast = MODELS.build({**PRESETS[preset], **loss})
        self.in_index = in_index
        self.downsample = downsample

    def forward(self, features: Sequence[Tensor], strong: bool = False) -> Tensor:
        """Embed one encoder map: (B, C, h, w) to (B, D, h / s, w / s), rounded up."""
        x = features[self.in_index]
        if self.downsample > 1:
            x = F.avg_pool2d(x, self.downsample, ceil_mode=True)
        if strong and self.strong_mlp is not None:
            return self.strong_mlp(x.detach())
        return self.mlp(x)

    def grid(
        self,
        features: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        padded: tuple[int, int],
    ) -> Grid:
        """Return the positions of the embeddings' cells.

        Args:
            features: The encoder's maps of a batch.
            sizes: Height and width of each image in pixels, without padding.
            padded: Height and width of the batch in pixels.
        """
        height, width = features[self.in_index].shape[-2:]
        return Grid.of_map((height, width), sizes, padded, self.downsample)

    def loss(
        self,
        inputs: Tensor,
        samples: SampleList,
        encoder: Callable[[Tensor], Sequence[Tensor]],
        weak: Sequence[Tensor],
        masks: FactoredMasks | Tensor,
        class_logits: Tensor,
    ) -> dict[str, Tensor]:
        """Contrast a batch with its strong view.

        Args:
            inputs: The batch, the weak view, float (B, 3, H, W).
            samples: Its samples; their ``img_shape`` separates images from padding.
            encoder: The module that made ``weak`` from ``inputs``, or a module's method
                that did.
            weak: Encoder maps of the weak view.
            masks: Last masks of the weak view, or their logits (B, K, h, w).
            class_logits: Last class predictions, (B, K, C + 1).

        Returns:
            ``loss_pxl``, already times its weight.

        Raises:
            ValueError: Negatives come from other images only, and there is none.
        """
        sizes = [sample.img_shape[:2] for sample in samples]
        with torch.no_grad(), _kept_statistics(getattr(encoder, '__self__', encoder)):
            strong = encoder(self.strong_view(inputs, sizes))
        padded = (inputs.shape[2], inputs.shape[3])
        loss = self.contrast(
            self(weak),
            self(strong, strong=True),
            masks,
            class_logits,
            self.grid(weak, sizes, padded),
        )
        return {'loss_pxl': loss}


@contextmanager
def _kept_statistics(module: Any) -> Iterator[None]:
    """Leave batch norm's running statistics as they are.

    The strong view is normalised by its own batch. The running statistics are for
    evaluation, which never sees a strong view.
    """
    norms = [
        m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
