"""Bridge gaps between third-party packages until their own releases do.

Each module covers one gap. It says what breaks, in which versions, and when the module
can be removed. Its function `apply` changes nothing if the gap is absent, and may be
called twice. Only `mmcast/__init__.py` imports this package.
"""

from . import (
    backbone_train,
    box_encoding,
    checkpoints,
    fairscale_checkpoint,
    numpy_in1d,
    transformers_names,
    weights_only_fallback,
)

__all__ = ['apply']


def apply() -> None:
    """Bridge every gap; must run before `mmdet.models` is imported."""
    checkpoints.apply()
    transformers_names.apply()
    backbone_train.apply()
    numpy_in1d.apply()
    fairscale_checkpoint.apply()
    weights_only_fallback.apply()
    box_encoding.apply()
    # They import what transformers_names must precede.
    from . import no_workers, visualizer_name, whole_checkpoints, wrapper_checkpoints

    whole_checkpoints.apply()
    wrapper_checkpoints.apply()
    no_workers.apply()
    visualizer_name.apply()
