"""Run work on several ranks; if one fails, all raise, and none waits for ever."""

from collections.abc import Callable
from typing import TypeVar

from mmengine.dist import all_gather_object, broadcast_object_list, get_rank

T = TypeVar('T')


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
    messages = all_gather_object(failure and f'{type(failure).__name__}: {failure}')
    if failure is not None:
        raise failure
    for rank, message in enumerate(messages):
        if message:
            raise RuntimeError(f'Rank {rank} failed: {message}')
    return result  # type: ignore[return-value]


def on_rank_zero(function: Callable[[], T]) -> T:
    """Call a function on rank 0 and return its result on every rank."""
    result = [raise_on_all_ranks(lambda: function() if get_rank() == 0 else None)]
    broadcast_object_list(result)
    return result[0]  # type: ignore[return-value]
