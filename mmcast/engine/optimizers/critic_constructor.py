"""One optimiser for a model with layer decay, one for its critic."""

from typing import Any

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmcast.models.unwrapped import unwrapped


class ModelCriticOptimWrapper(OptimWrapperDict):
    """mmengine's dict of optimisers that passes the iteration on to each.

    Accumulated gradients need it, to end a run with a step.
    """

    def initialize_count_status(
        self, model: nn.Module, cur_iter: int, max_iters: int
    ) -> None:
        """Tell each optimiser where the run stands."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, cur_iter, max_iters)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class CriticOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """Build ``model`` as mmpretrain's layer decay does, and ``critic`` if there is one.

    Args:
        optim_wrapper_cfg: As for one optimiser, plus ``critic_optimizer``. The critic's
            wrapper has the same type and the same settings, without ``clip_grad``.
        paramwise_cfg: As in mmpretrain's ``LearningRateDecayOptimWrapperConstructor``.

    Raises:
        ValueError: ``optimizer`` lacks ``lr`` or ``weight_decay``.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        wrapper = optim_wrapper_cfg.copy()
        self.critic_optimizer = wrapper.pop('critic_optimizer', None)
        for key in ('lr', 'weight_decay'):  # which mmpretrain scales
            if key not in wrapper['optimizer']:
                raise ValueError(
                    f'optim_wrapper.optimizer has no {key}: layer decay needs it, '
                    'also if it is 0'
                )
        super().__init__(wrapper, paramwise_cfg or {'layer_decay_rate': 1.0})

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build both.

        Raises:
            ValueError: The model has a critic, but the config no ``critic_optimizer``.
        """
        model = unwrapped(model)
        wrappers: dict[str, OptimWrapper] = {'model': super().__call__(model)}
        critic = getattr(model, 'critic', None)
        if critic is not None:
            if self.critic_optimizer is None:
                raise ValueError(
                    'the model has a critic: give optim_wrapper.critic_optimizer, or '
                    'set model.critic=None'
                )
            optimizer = OPTIMIZERS.build(
                {**self.critic_optimizer, 'params': list(critic.parameters())}
            )
            settings = {**self.optim_wrapper_cfg, 'optimizer': optimizer}
            settings.pop('clip_grad', None)
            settings.setdefault('type', 'OptimWrapper')
            wrappers['critic'] = OPTIM_WRAPPERS.build(settings)
        return ModelCriticOptimWrapper(**wrappers)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add a module's weights, one group each, without the critic's."""
        if prefix != 'critic.':
            super().add_params(params, module, prefix=prefix, **kwargs)
