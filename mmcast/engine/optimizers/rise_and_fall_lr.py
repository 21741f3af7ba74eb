"""A learning rate that rises for half of a run and falls for the other half."""

from typing import Any

from mmdet.registry import PARAM_SCHEDULERS
from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF


@PARAM_SCHEDULERS.register_module()
class RiseAndFallLR(_ParamScheduler):
    """Rise from a share of each group's rate to all of it, then fall back.

    Source: SwinMTL's research code, after MIM-Depth-Estimation. With t the step, T
    half of the steps and r = 0.06 (3e-5 of 5e-4), the factor on each group's rate is

        r + (1 - r) * (t / T) ** 0.9             while t < T,
        max(r, 1 - (1 - r) * (t / T - 1) ** 0.9) after that.

    Args:
        optimizer: The optimiser, or its wrapper.
        end: Iterations of the run, which the runner gives; the second half begins at
            end // 2. The lowest rate stays after it.
        by_epoch: Must be False in the config: the runner gives epochs otherwise.
        kwargs: Of mmengine's schedulers.

    Raises:
        ValueError: ``by_epoch`` is not False.
    """

    def __init__(
        self,
        optimizer: Any,
        end: int,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> None:
        if by_epoch:
            raise ValueError('RiseAndFallLR counts iterations: give by_epoch=False')
        self.half = max(end // 2, 1)
        kwargs.update(by_epoch=False, end=INF)
        super().__init__(optimizer, param_name='lr', **kwargs)

    def _get_value(self) -> list[float]:
        return [value * self._factor(self.last_step) for value in self.base_values]

    def _factor(self, step: int) -> float:
        low, share = 0.06, step / self.half
        if share < 1:
            return low + (1 - low) * share**0.9
        return max(low, 1 - (1 - low) * (share - 1) ** 0.9)
