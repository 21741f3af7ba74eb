"""No weight decay on normalisation layers, with any other setting of a module."""

from typing import Any

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NoNormDecayConstructor(DefaultOptimWrapperConstructor):
    """Build parameter groups without weight decay on any normalisation layer.

    In mmengine's constructor, a custom key like ``backbone`` that sets only a learning
    rate also switches off ``norm_decay_mult`` for all norms below it. CAST and
    Mask2Former decay no norm.

    A parameter that modules share, as the levels of RTMDet's head, is in one group:
    ``bypass_duplicate=True`` of mmengine's constructor, without a search for each.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add a module's parameters, one group each."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:  # a recursive call, for a child
            return
        first: dict[int, dict] = {}
        for group in params:
            first.setdefault(id(group['params'][0]), group)
        params[:] = first.values()
        norms = {
            id(parameter)
            for part in module.modules()
            if isinstance(part, NORMS)
            for parameter in part.parameters(recurse=False)
        }
        for group in params:
            if id(group['params'][0]) in norms:
                group['weight_decay'] = 0.0
