"""The optimiser of a detector, also while the detector trains beside a teacher."""

from typing import Any

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import OptimWrapper
from torch import nn

from mmcast.models.unwrapped import unwrapped


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor:
    """Let a constructor that knows a detector's layers see the student alone.

    mmdet's ``LearningRateDecayOptimizerConstructor``, as its ConvNeXt configs have it,
    looks for ``model.backbone`` and at names as ``backbone.stages.0``, which a
    ``SemiSupervisedSegmentor`` has below ``student``. Weights of the wrapper itself, as
    the pixel contrast's, get the optimiser's own rate and weight decay.

    Args:
        optim_wrapper_cfg: As for the detector.
        paramwise_cfg: As for the detector, with ``constructor``, the type of its own
            constructor; mmengine's ``DefaultOptimWrapperConstructor`` by default.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        paramwise = dict(paramwise_cfg or {})
        kind = paramwise.pop('constructor', 'DefaultOptimWrapperConstructor')
        self.constructor: Any = OPTIM_WRAPPER_CONSTRUCTORS.build(
            dict(
                type=kind,
                optim_wrapper_cfg=optim_wrapper_cfg,
                paramwise_cfg=paramwise or None,
            )
        )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser of a ``SemiSupervisedSegmentor``."""
        wrapper: Any = unwrapped(model)
        built = self.constructor(wrapper.student)
        own = {
            name: parameter
            for name, parameter in wrapper.named_parameters()
            if not name.startswith(('student.', 'teacher.')) and parameter.requires_grad
        }
        if own:
            group: dict[str, Any] = dict(params=[*own.values()])
            # All groups have names, or none.
            if 'param_names' in built.optimizer.param_groups[0]:
                group['param_names'] = [*own]
            built.optimizer.add_param_group(group)
        return built
