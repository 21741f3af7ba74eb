"""Let `torch.load` read mmengine's own checkpoints without trusting files.

What breaks: from torch 2.6 on `torch.load` unpickles with `weights_only=True`, and
mmengine (up to 0.10.7 at least) saves its `MessageHub` along with the weights: numpy
arrays and scalars inside `HistoryBuffer` objects. So `--resume` and `mim test` cannot
read the checkpoints that `mim train` has just written.

The cure: torch's allow-list gets exactly the globals that those checkpoints hold.
`weights_only` stays True, and a file that names anything else is still an error.
`HistoryBuffer` also pickles its statistics methods, as calls of `builtins.getattr`.
Allowing `getattr` would allow every attribute of every allowed object. So a stand-in
replaces it that knows those four methods and nothing else.

Remove it when mmengine puts its own types on the allow-list.
"""

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# Not `HistoryBuffer._statistics_methods`: anyone can register a method there.
_STATISTICS = ('min', 'max', 'current', 'mean')


def _history_buffer_getattr(owner: Any, name: Any) -> Callable[..., Any]:
    """Replace `getattr` in a checkpoint, for HistoryBuffer's statistics only.

    Args:
        owner: The object whose attribute the file asks for.
        name: The attribute's name (str).

    Returns:
        The unbound statistics method.

    Raises:
        UnpicklingError: For any other object or attribute.
    """
    if owner is HistoryBuffer and isinstance(name, str) and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    raise UnpicklingError(
        f'the checkpoint asks for attribute {name!r} of {owner!r}, but checkpoints '
        'of mmengine never do; do not load this file'
    )


def _safe_globals() -> list[Any]:
    # The two functions that numpy's pickles name, from the installed numpy.
    functions = {
        '_reconstruct': np.zeros(1).__reduce__()[0],
        'scalar': np.float64(0).__reduce__()[0],
    }
    allowed: list[Any] = [
        HistoryBuffer,
        (_history_buffer_getattr, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
    ]
    # numpy 2 writes `numpy._core`, numpy 1 wrote `numpy.core`.
    for package in ('numpy._core', 'numpy.core'):
        for name, function in functions.items():
            allowed.append((function, f'{package}.multiarray.{name}'))
    allowed += {type(np.dtype(code)) for code in '?bhilqBHILQefd'}
    return allowed


def apply() -> None:
    """Put the types in mmengine's checkpoints on torch's allow-list."""
    torch.serialization.add_safe_globals(_safe_globals())
