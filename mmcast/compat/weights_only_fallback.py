"""Keep `weights_only=True` where a fork of mmengine would give it up.

What breaks: onedl-mmengine (0.10.12) reads checkpoints through `_safe_torch_load`. If
torch refuses a file, this warns and unpickles it with `weights_only=False`, and so
executes what the file holds. It also takes its own names, `HistoryBuffer` among them,
off torch's allow-list when it has read a file, and the next checkpoint is refused.

The cure: a plain `torch.load` with the allow-list of `checkpoints.py`.

Remove it when the fork refuses such files.
"""

from typing import Any

import torch


def _load(file: Any, map_location: Any = None, weights_only: bool = True) -> Any:
    """Do as `torch.load`; nobody can ask for `weights_only=False`."""
    return torch.load(file, map_location=map_location, weights_only=True)


def apply() -> None:
    """Replace the fork's function, if mmengine has it."""
    from mmengine.runner import checkpoint

    if hasattr(checkpoint, '_safe_torch_load'):
        setattr(checkpoint, '_safe_torch_load', _load)  # noqa: B010
