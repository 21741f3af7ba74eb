"""Swin V2 that SimMIM pre-trains (arXiv 2111.09886); mmpretrain has it for Swin V1."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from .swin_v2 import SwinV2


@MODELS.register_module()
class SimMIMSwinV2(SwinV2):
    """Encode images of which some tokens are hidden, for ``mmpretrain.SimMIM``.

    Args:
        kwargs: As :class:`SwinV2`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        trunc_normal_(self.mask_token, std=0.02)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Encode images without their hidden tokens.

        Args:
            x: Images, float (N, 3, H, W).
            mask: 1 where a token is hidden, (N, H / patch, W / patch).

        Returns:
            As :class:`SwinV2`.
        """
        hidden = mask.flatten(1).unsqueeze(2).bool()
        handle = self.patch_embed.register_forward_hook(
            lambda module, args, out: (
                torch.where(hidden, self.mask_token, out[0]),
                out[1],
            )
        )
        try:
            return super().forward(x)
        finally:
            handle.remove()
