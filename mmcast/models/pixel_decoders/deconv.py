"""SwinMTL's shared decoder: deconvolutions on the encoder's last map."""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn


@MODELS.register_module()
class DeconvDecoder(BaseModule):
    """Double the size of the encoder's last map a few times.

    Source: SwinMTL (arXiv 2403.10662), after SimpleBaseline. Deconvolutions of
    kernel 2 with norm and ReLU, then a 3x3 convolution to ``out_channels`` with norm
    and ReLU.

    Args:
        in_channels: Channels of the encoder's last map.
        channels: Channels after each deconvolution.
        num_deconvs: Number of deconvolutions; each doubles the size.
        out_channels: Channels of the output.
        norm_cfg: Norm of the decoder.
        init_std: Standard deviation of the first weights.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 32,
        num_deconvs: int = 3,
        out_channels: int = 128,
        norm_cfg: dict | None = None,
        init_std: float = 0.001,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or dict(type='BN')
        layers: list[nn.Module] = []
        for index in range(num_deconvs):
            before = channels if index else in_channels
            deconv = nn.ConvTranspose2d(before, channels, 2, stride=2, bias=False)
            norm = build_norm_layer(norm_cfg, channels)[1]
            layers += [deconv, norm, nn.ReLU(inplace=True)]
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1),
            build_norm_layer(norm_cfg, out_channels)[1],
            nn.ReLU(inplace=True),
        ]
        self.layers = nn.Sequential(*layers)
        convs = ['Conv2d', 'ConvTranspose2d']
        initialize(self, dict(type='Normal', layer=convs, std=init_std))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Decode the last map, float (N, C, h, w), to float (N, out_channels, H, W).

        H is h times 2 ** num_deconvs, and so is W of w.
        """
        return self.layers(features[-1])
