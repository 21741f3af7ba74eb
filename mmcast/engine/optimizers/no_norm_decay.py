"""No weight decay on normalisation layers, whatever else is set for their module."""

from typing import Any

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NoNormDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, whose ``norm_decay_mult`` ends where a custom key begins.

    There, a key like ``backbone`` that sets the learning rate alone switches off
    ``norm_decay_mult`` for all norms below it. CAST and Mask2Former decay no norm.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add a module's parameters, one group each."""
        super().add_params(params, module, prefix=prefix, **kwargs)
        if prefix:  # called by itself for a child
            return
        norms = {
            id(parameter)
            for part in module.modules()
            if isinstance(part, NORMS)
            for parameter in part.parameters(recurse=False)
        }
        for group in params:
            if id(group['params'][0]) in norms:
                group['weight_decay'] = 0.0
