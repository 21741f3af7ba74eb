"""Projection of encoder features for the pixel contrast (CAST, section 2)."""

import copy
from collections.abc import Sequence

import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmcast.models.losses.presets import PRESETS


@MODELS.register_module()
class PixelContrastHead(BaseModule):
    """A pixel-wise MLP on one encoder map of each view, and the loss on it.

    The weak view carries the gradient to the encoder. The strong view passes the
    encoder without gradient (research code of CAST) and then the same MLP.

    Args:
        in_channels: Channels of the encoder map.
        loss: Config of the loss on the embeddings; its ``loss_weight`` is the
            method's lambda_pxl. What it leaves out comes from the preset.
        preset: Name of the settings in :data:`mmcast.models.losses.PRESETS`.
        embed_channels: Channels of hidden layers and embeddings.
        num_layers: Linear layers of the MLP, without bias.
        in_index: Which of the encoder's maps is used.
        downsample: Factor by which the map is average-pooled first.
        frozen_strong_mlp: Whether the strong view passes a copy of the initial MLP that
            never learns, and no gradient flows back from it (the research code); None
            takes the preset's.

    Raises:
        ValueError: There is no such preset.
    """

    def __init__(
        self,
        in_channels: int,
        loss: dict,
        preset: str = 'default',
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
        settings = PRESETS[preset]
        if frozen_strong_mlp is None:
            frozen_strong_mlp = settings['head'].get('frozen_strong_mlp', False)
        self.strong_mlp: nn.Module | None = None
        if frozen_strong_mlp:
            self.strong_mlp = copy.deepcopy(self.mlp).requires_grad_(False)
        self.contrast = MODELS.build({**settings['loss'], **loss})
        self.in_index = in_index
        self.downsample = downsample

    def forward(self, features: Sequence[Tensor], strong: bool = False) -> Tensor:
        """Embed one encoder map: (B, C, h, w) to (B, D, h / s, w / s)."""
        x = features[self.in_index]
        if self.downsample > 1:
            x = F.avg_pool2d(x, self.downsample, ceil_mode=True)
        if strong and self.strong_mlp is not None:
            return self.strong_mlp(x.detach())
        return self.mlp(x)

    def loss(
        self,
        weak: Sequence[Tensor],
        strong: Sequence[Tensor],
        mask_logits: Tensor,
        class_logits: Tensor,
    ) -> dict[str, Tensor]:
        """Contrast of two views of one batch.

        Args:
            weak: Encoder maps of the weak view.
            strong: Encoder maps of the strong view, without gradient.
            mask_logits: Last mask predictions of the weak view, (B, K, H, W).
            class_logits: Last class predictions, (B, K, C + 1).

        Returns:
            ``loss_pxl``, already times its weight.

        Raises:
            ValueError: Negatives come from other images only, and there is none.
        """
        contrast = self.contrast
        elsewhere = contrast.all_ranks or contrast.memory
        if (
            contrast.candidates == 'other_images'
            and len(class_logits) < 2
            and not elsewhere
        ):
            raise ValueError(
                "candidates='other_images' needs at least 2 images per device, got "
                "1: raise train_dataloader.batch_size or set candidates='all'"
            )
        return {
            'loss_pxl': contrast(
                self(weak), self(strong, strong=True), mask_logits, class_logits
            )
        }
