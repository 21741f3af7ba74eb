"""SAM 2.1's image encoder as a backbone, with transformers' model.

CAST (arXiv 2505.21904, Table 5) compares Hiera-S among its students' encoders. Hiera:
arXiv 2306.00989; with SAM 2's windowed position embedding: arXiv 2408.00714.
"""

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from mmcast.checkpoints import State, load_strict, pretrained_source
from mmcast.models.segmenters.sam2 import sam2_config

_PREFIX = 'vision_encoder.backbone.'


@MODELS.register_module()
class Sam2Hiera(BaseModule):
    """Hiera of SAM 2.1, with maps of strides 4, 8, 16 and 32.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base-plus'``, ``'large'``, or a dict of
            ``Sam2Config``'s arguments.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` with the
            ``model.safetensors`` of ``facebook/sam2.1-hiera-*``, which holds the image
            encoder among other parts; None for random weights.

    Attributes:
        divisor: Height and width of an input must be multiples of it.
    """

    def __init__(
        self, arch: str | dict = 'small', init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        config = sam2_config(arch).vision_config.backbone_config
        from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel

        self.hiera = Sam2HieraDetModel(config)
        # The strides, and the window that tiles the position embedding at stride 4.
        self.divisor = max(32, 4 * config.window_size_per_stage[0])

    def init_weights(self) -> None:
        """Load the encoder from ``init_cfg.checkpoint``, or draw random weights.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not of this architecture.
        """
        source = pretrained_source(self)
        if source is None:
            self.hiera.init_weights()
        else:
            load_strict(self.hiera, source, _encoder_only)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the last map of each stage, finest first.

        Args:
            x: Images, float (N, 3, H, W), H and W multiples of ``divisor``.

        Returns:
            Float (N, C_i, H / s, W / s) for s = 4, 8, 16, 32.

        Raises:
            ValueError: The input is not a multiple of ``divisor``.
        """
        height, width = x.shape[-2:]
        if height % self.divisor or width % self.divisor:
            raise ValueError(
                f'Sam2Hiera got images of {height}x{width}, not multiples of '
                f'{self.divisor}: set data_preprocessor.pad_size_divisor={self.divisor}'
            )
        maps = self.hiera(x).intermediate_hidden_states
        return tuple(level.permute(0, 3, 1, 2).contiguous() for level in maps)


def _encoder_only(state: State) -> State:
    return {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in state.items()
        if name.startswith(_PREFIX)
    }
