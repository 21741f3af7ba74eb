"""Let mmdet's `browse_dataset` build a visualizer that has no name in its config.

What breaks: mmengine's runner names a visualizer without a name after its run, so that
several runs of one process do not share it. mmdet's `browse_dataset.py` builds it
alone, and fails with a TypeError.

The cure: there the name is `visualizer`, as in mmdet's configs.

Remove it when mmengine's `Visualizer.get_instance` needs no name.
"""

import functools
from typing import Any


def apply() -> None:
    """Change `Visualizer.get_instance`."""
    from mmengine.visualization import Visualizer

    get = Visualizer.get_instance.__func__
    if hasattr(get, '__wrapped__'):
        return

    @functools.wraps(get)
    def get_instance(cls: Any, name: str = 'visualizer', **kwargs: Any) -> Any:
        return get(cls, name, **kwargs)

    setattr(Visualizer, 'get_instance', classmethod(get_instance))  # noqa: B010
