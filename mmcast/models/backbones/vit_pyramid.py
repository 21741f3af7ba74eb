"""A plain vision transformer as a pyramid: its last tokens at four strides.

Source: Guided Distillation (arXiv 2308.02668), which connects DINOv2 and DeiT to
Mask2Former in this way. Its code adds one patch to an image whose sides are multiples
of the patch size already; here such an image stays as it is.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn

from mmcast.checkpoints import load_strict, pretrained_source
from mmcast.models.backbones.dinov2 import backbone_state_dict


@MODELS.register_module()
class ViTPyramid(BaseModule):
    """The last block's normalised patch tokens as maps of strides 4, 8, 16 and 32.

    Args:
        vit: Config of a :class:`DINOv2` or of mmpretrain's ``VisionTransformer`` with
            ``out_type='featmap'``, without weights. Only its last map is used.
        out_channels: Channels of the four maps.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` with the
            transformer's weights, in Meta's names or mmpretrain's; None for random
            weights.
    """

    def __init__(
        self,
        vit: dict,
        out_channels: Sequence[int] = (128, 256, 512, 1024),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.vit: VisionTransformer = MODELS.build(vit)
        self.patch_size = self.vit.patch_embed.projection.stride[0]
        self.levels = nn.ModuleList(
            nn.Conv2d(self.vit.embed_dims, channels, 1) for channels in out_channels
        )

    def init_weights(self) -> None:
        """Load the transformer from ``init_cfg.checkpoint``, or draw random weights.

        Raises:
            FileNotFoundError: The checkpoint is neither on disk nor reachable.
            ValueError: It is not of this architecture.
        """
        source = pretrained_source(self)
        if source is None:
            super().init_weights()
        else:
            load_strict(self.vit, source, backbone_state_dict)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return four maps, finest first.

        Args:
            x: Images, float (N, 3, H, W).

        Returns:
            Float (N, C_i, ceil(H / s), ceil(W / s)) for s = 4, 8, 16, 32.
        """
        height, width = x.shape[-2:]
        whole = [
            -(-side // self.patch_size) * self.patch_size for side in (height, width)
        ]
        if whole != [height, width]:
            x = F.interpolate(x, size=whole, mode='nearest')
        tokens = self.vit(x)[-1]
        return tuple(
            level(F.interpolate(tokens, size=(-(-height // s), -(-width // s))))
            for level, s in zip(self.levels, (4, 8, 16, 32), strict=True)
        )
