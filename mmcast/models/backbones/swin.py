"""Swin Transformer with its ImageNet weights, loaded whole or not at all.

Swin (arXiv 2103.14030) is mmdet's; of a file that has other names than expected, mmdet
takes what fits, and trains the rest from random weights.
"""

from mmdet.models.backbones.swin import SwinTransformer, swin_converter
from mmdet.registry import MODELS

from mmcast.models.weights import load_pretrained, load_whole


@MODELS.register_module()
class ImageNetSwin(SwinTransformer):
    """mmdet's ``SwinTransformer``, with its arguments but for ``convert_weights``.

    ``init_cfg=dict(type='Pretrained', checkpoint=FILE_OR_URL)`` names a file of Swin's
    authors. The norms of the maps that are handed out are in no such file, and start as
    they are.
    """

    def init_weights(self) -> None:
        """Load ``init_cfg.checkpoint`` strictly, or draw random weights.

        Raises:
            FileNotFoundError: The checkpoint is neither on disk nor reachable.
            ValueError: It is not of this architecture.
        """
        if self.init_cfg is None:
            super().init_weights()
            return
        source = self.init_cfg['checkpoint']
        content = load_pretrained(source)
        found = {
            name.removeprefix('backbone.'): tensor
            for name, tensor in swin_converter(content.get('model', content)).items()
        }
        norms = tuple(f'norm{i}.' for i in self.out_indices)
        own = {k: v for k, v in self.state_dict().items() if k.startswith(norms)}
        load_whole(self, {**found, **own}, source)
