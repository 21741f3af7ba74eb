"""Let `num_workers=0` alone mean that no worker reads images.

What breaks: torch's `DataLoader` refuses `persistent_workers=True` and a
`prefetch_factor` without workers, and a config has them for its workers. So
`--cfg-options train_dataloader.num_workers=0`, with which one debugs a pipeline, ends
in a traceback.

The cure: mmengine's runner leaves out both where there are no workers.

Remove it when mmengine does so.
"""

import functools
from typing import Any

_OF_WORKERS = ('persistent_workers', 'prefetch_factor')


def apply() -> None:
    """Change `Runner.build_dataloader`."""
    from mmengine.runner import Runner

    build = Runner.build_dataloader
    if hasattr(build, '__wrapped__'):
        return

    @functools.wraps(build)
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(dataloader, dict) and not dataloader.get('num_workers', 0):
            dataloader = {k: v for k, v in dataloader.items() if k not in _OF_WORKERS}
        return build(dataloader, *args, **kwargs)

    setattr(Runner, 'build_dataloader', staticmethod(build_dataloader))  # noqa: B010
