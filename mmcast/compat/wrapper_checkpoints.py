"""Refuse a wrapper's checkpoint where the plain detector inside is loaded.

What breaks: mmengine (up to 0.10.7 at least) only warns if a file has none of a model's
weights. A checkpoint of a training with a teacher has them below `student.`. With the
detector's config, `DetInferencer`, `init_detector` and `mim test` then predict with
random weights.

The cure: this is an error. It names the exported file, or the command that makes it.

Remove it when mmengine refuses a file without any weight of the model.
"""

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def apply() -> None:
    """Change mmengine's function that loads weights, which all others call."""
    from mmengine.runner import checkpoint

    loader, load = checkpoint.CheckpointLoader, checkpoint.load_state_dict
    if hasattr(load, '__wrapped__'):
        return
    read = loader.load_checkpoint.__func__
    last: dict[str, Any] = {}  # `load_state_dict` does not know the file

    @functools.wraps(read)
    def load_checkpoint(cls: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        content = read(cls, filename, *args, **kwargs)
        if isinstance(content, dict):
            state = content.get('state_dict', content)
            last.update(file=filename, count=len(state))
        return content

    @functools.wraps(load)
    def load_state_dict(
        module: nn.Module, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any
    ) -> None:
        from mmcast.engine.stages import refuse_wrapper  # not before mmcast is there

        file = last.get('file') if last.get('count') == len(state_dict) else None
        refuse_wrapper(state_dict, module.state_dict(), file or 'the file')
        load(module, state_dict, *args, **kwargs)

    setattr(loader, 'load_checkpoint', classmethod(load_checkpoint))  # noqa: B010
    setattr(checkpoint, 'load_state_dict', load_state_dict)  # noqa: B010
