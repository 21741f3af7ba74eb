"""Swin Transformer (arXiv 2103.14030) with its ImageNet weights.

The network is mmdet's. mmdet loads what fits from a file and trains the rest from
random weights; this class raises if a file does not fit.
"""

from mmdet.models.backbones.swin import SwinTransformer, swin_converter
from mmdet.registry import MODELS

from mmcast.checkpoints import State, load_strict, pretrained_source


@MODELS.register_module()
class ImageNetSwin(SwinTransformer):
    """mmdet's ``SwinTransformer``, with its arguments except ``convert_weights``.

    ``init_cfg=dict(type='Pretrained', checkpoint=FILE_OR_URL)`` names a file of Swin's
    authors. It has no norms for the returned maps; these keep their initial values.
    """

    def init_weights(self) -> None:
        """Load ``init_cfg.checkpoint`` strictly, or draw random weights.

        Raises:
            FileNotFoundError: The checkpoint is neither on disk nor reachable.
            ValueError: It is not of this architecture.
        """
        source = pretrained_source(self)
        if source is None:
            super().init_weights()
        else:
            load_strict(self, source, self._rename)

    def _rename(self, state: State) -> State:
        found = {
            name.removeprefix('backbone.'): tensor
            for name, tensor in swin_converter(state).items()
        }
        norms = tuple(f'norm{i}.' for i in self.out_indices)
        own = {k: v for k, v in self.state_dict().items() if k.startswith(norms)}
        return {**found, **own}
