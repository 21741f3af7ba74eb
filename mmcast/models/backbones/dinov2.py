"""DINOv2 vision transformer as a dense backbone.

DINOv2 (arXiv 2304.07193) applies its *final* layer norm to every layer that it returns;
mmpretrain's ``VisionTransformer`` does so for the last layer only. This subclass
normalises every output. It loads Meta's file or mmpretrain's converted one, and raises
if a file does not fit.
"""

import re
from collections.abc import Sequence

from mmdet.registry import MODELS
from mmpretrain.models import VisionTransformer
from torch import Tensor

from mmcast.checkpoints import State

from .strict_init import StrictInit

# Meta's parameter names and mmpretrain's, in the order they are rewritten.
_META_TO_MMPRETRAIN = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.', 'layers.'),
    (r'\.norm([12])\.', r'.ln\1.'),
    (r'\.ls1\.gamma$', '.attn.gamma1.weight'),
    (r'\.ls2\.gamma$', '.ffn.gamma2.weight'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
    (r'^norm\.', 'ln1.'),
)


@MODELS.register_module()
class DINOv2(StrictInit, VisionTransformer):
    """ViT-S/B/L of DINOv2 that returns four maps of one resolution.

    Args:
        arch: ``'dinov2-small'``, ``'base'``, ``'large'`` or mmpretrain's dict
            of ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``.
        out_indices: Blocks whose output is returned, counted from zero; None for the
            last block of each quarter, (2, 5, 8, 11) of twelve.
        patch_size: Side of a patch in pixels.
        img_size: Side in pixels of the square that the position embedding is stored
            for; the embedding is resized bicubically to each input.
        drop_path_rate: Stochastic depth.
        frozen_stages: Number of leading blocks that do not train; -1 for none.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` or None
            for random weights.
    """

    def __init__(
        self,
        arch: str | dict = 'dinov2-small',
        out_indices: Sequence[int] | None = None,
        patch_size: int = 14,
        img_size: int = 518,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        if out_indices is None:
            known = self.arch_zoo[arch] if isinstance(arch, str) else arch
            depth = known['num_layers']
            out_indices = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            out_indices=list(out_indices),
            out_type='featmap',
            drop_path_rate=drop_path_rate,
            frozen_stages=frozen_stages,
            layer_scale_init_value=1.0,
            init_cfg=init_cfg,
        )
        self.patch_size = patch_size
        # The parent would normalise the last block's output only; ``ln1`` is
        # applied to every output in _format_output instead.
        self.final_norm = False

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return one map per ``out_indices``, highest block last.

        Args:
            x: Images, float (N, 3, H, W), H and W multiples of the patch size.

        Returns:
            Normalised patch tokens, each float (N, C, H / patch, W / patch).

        Raises:
            ValueError: The input is not a multiple of the patch size.
        """
        height, width = x.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'DINOv2 got images of {height}x{width}, not multiples of its '
                f'patch size {self.patch_size}: set '
                f'data_preprocessor.pad_size_divisor={self.patch_size}'
            )
        return super().forward(x)

    def _format_output(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        return super()._format_output(self.ln1(x), hw)

    def rename(self, state: State) -> State:
        """Give the weights of a file this module's names."""
        return backbone_state_dict(state)


def backbone_state_dict(state: State) -> State:
    """Rename the weights of Meta's or mmpretrain's DINOv2 to this module's names.

    Args:
        state: Meta's weights (``blocks.0.norm1.weight`` ...), or mmpretrain's with the
            prefix ``backbone.``.

    Returns:
        Names in :class:`DINOv2` to tensors, without ``mask_token``, which only DINOv2's
        pre-training uses.
    """
    names = [name for name in state if name.startswith('backbone.')]
    if names:
        return {name.removeprefix('backbone.'): state[name] for name in names}
    renamed = {}
    for name, tensor in state.items():
        if name == 'mask_token':
            continue
        for pattern, replacement in _META_TO_MMPRETRAIN:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
