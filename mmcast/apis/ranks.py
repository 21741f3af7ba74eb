"""Run work on several ranks; if one fails, all raise, and none waits for ever.

The ranks that have nothing to do wait for the others as long as it takes: labelling may
take hours, and NCCL ends a process that has waited for 10 minutes. So they meet in a
group of their own, on the CPU. If a process dies, those that wait for it end at once.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import mmengine.dist
import torch.distributed
from mmengine.dist import get_rank, is_distributed

T = TypeVar('T')
LONGEST = timedelta(days=30)
_groups: list[tuple[Any, Any]] = []  # the processes, and their group that waits


def raise_on_all_ranks(function: Callable[[], T]) -> T:
    """Call a function on every rank; if it fails on one, every rank raises.

    Raises:
        Exception: What this rank's own call raised.
        RuntimeError: Another rank failed; the message names it and its error.
    """
    result: T | None = None
    failure: Exception | None = None
    try:
        result = function()
    except Exception as error:
        failure = error
    messages = from_all_ranks(failure and f'{type(failure).__name__}: {failure}')
    if failure is not None:
        raise failure
    for rank, message in enumerate(messages):
        if message:
            raise RuntimeError(f'Rank {rank} failed: {message}')
    return result  # type: ignore[return-value]


def on_rank_zero(function: Callable[[], T]) -> T:
    """Call a function on rank 0 and return its result on every rank."""
    result = [raise_on_all_ranks(lambda: function() if get_rank() == 0 else None)]
    mmengine.dist.broadcast_object_list(result, group=_patient_group())
    return result[0]  # type: ignore[return-value]


def from_all_ranks(value: T) -> list[T]:
    """Return the value of each rank, on every rank."""
    return mmengine.dist.all_gather_object(value, _patient_group())


def _patient_group() -> Any:
    """Return the group of all ranks that waits; None if there is one process."""
    if not is_distributed():
        return None
    world = torch.distributed.group.WORLD
    if not _groups or _groups[0][0] is not world:
        made = torch.distributed.new_group(backend='gloo', timeout=LONGEST)
        _groups[:] = [(world, made)]
    return _groups[0][1]
