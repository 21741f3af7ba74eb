"""The contrast's temperature: fixed, or linear over the training forwards."""

import math
from typing import Any

import torch
from torch import Tensor, nn

# e^(-2 / T) stays a normal float32 number.
LOWEST = 0.025


class Temperature(nn.Module):
    """A number, or a line from ``start`` to ``end`` over ``iters`` steps.

    The state dict holds the count of steps, so that a resumed run continues.

    Args:
        setting: T, or ``dict(start=, end=, iters=)``.

    Raises:
        ValueError: A temperature below 0.025, or another kind of setting.
    """

    step: Tensor

    def __init__(self, setting: float | dict[str, float]) -> None:
        super().__init__()
        schedule = (
            setting
            if isinstance(setting, dict)
            else dict(start=setting, end=setting, iters=1)
        )
        if set(schedule) != {'start', 'end', 'iters'}:
            raise ValueError(
                f'temperature={setting!r} must be a number or '
                'dict(start=..., end=..., iters=...).'
            )
        self.start, self.end = schedule['start'], schedule['end']
        self.iters = schedule['iters']
        for value in (self.start, self.end):
            if not (value >= LOWEST and math.isfinite(value)):
                raise ValueError(
                    f'temperature={value} must be at least {LOWEST}; 0.07 to 0.4 is '
                    'usual.'
                )
        if not (isinstance(self.iters, int) and self.iters >= 1):
            raise ValueError(
                f'temperature.iters={self.iters} must be an integer of at least 1.'
            )
        self.scheduled = self.start != self.end
        if self.scheduled:
            self.register_buffer('step', torch.zeros((), dtype=torch.long))
        self._count: int | None = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._count = None  # read it from the loaded state

    @property
    def value(self) -> float:
        """T of the next training forward."""
        if not self.scheduled:
            return self.start
        share = min(self._steps() / self.iters, 1.0)
        return self.start + (self.end - self.start) * share

    def advance(self) -> None:
        """Count a training forward."""
        if self.scheduled:
            self._count = self._steps() + 1
            self.step += 1

    def _steps(self) -> int:
        if self._count is None:
            self._count = int(self.step)  # waits for the device, so only once
        return self._count
