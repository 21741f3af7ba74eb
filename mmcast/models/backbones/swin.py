"""Swin Transformer (arXiv 2103.14030) with its ImageNet weights.

The network is mmdet's. mmdet loads what fits from a file and trains the rest from
random weights; this class raises if a file does not fit.
"""

from mmdet.models.backbones.swin import SwinTransformer, swin_converter
from mmdet.registry import MODELS

from mmcast.checkpoints import State

from .strict_init import StrictInit


@MODELS.register_module()
class ImageNetSwin(StrictInit, SwinTransformer):
    """mmdet's ``SwinTransformer``, with its arguments except ``convert_weights``.

    ``init_cfg=dict(type='Pretrained', checkpoint=FILE_OR_URL)`` names a file of Swin's
    authors. It has no norms for the returned maps; these keep their initial values.
    """

    exact = False  # the file has a classifier

    def rename(self, state: State) -> State:
        """Give the weights of a file this module's names, and add its own norms."""
        found = {
            name.removeprefix('backbone.'): tensor
            for name, tensor in swin_converter(state).items()
        }
        norms = tuple(f'norm{i}.' for i in self.out_indices)
        own = {k: v for k, v in self.state_dict().items() if k.startswith(norms)}
        return {**found, **own}
