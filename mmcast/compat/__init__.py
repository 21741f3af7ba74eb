"""Gaps between third-party packages, bridged until their own releases do.

One small module per gap says what breaks, in which versions, and when it can go.
Each has one function, `apply`, that changes nothing where the gap is absent and
may be called twice. Only `mmcast/__init__.py` knows this package.
"""

from . import (
    backbone_train,
    checkpoints,
    fairscale_checkpoint,
    numpy_in1d,
    transformers_names,
)

__all__ = ['apply']


def apply() -> None:
    """Bridge every gap; has to run before `mmdet.models` is imported."""
    checkpoints.apply()
    transformers_names.apply()
    backbone_train.apply()
    numpy_in1d.apply()
    fairscale_checkpoint.apply()
