"""Modules that stand in for Ray and pyarrow: the tasks run one by one in this process.

Ray itself is tested by ``test_label_with_ray.py``, where it is installed.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np


class Rows:
    """A data set: blocks of rows."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.context = SimpleNamespace()

    def map_batches(self, make, *, fn_args=(), fn_constructor_args=(), **_):
        call = make(*fn_constructor_args) if isinstance(make, type) else make
        blocks = []
        for block in self.blocks:
            found = call(block, *fn_args)
            blocks += [found] if isinstance(found, dict) else found
        return Rows(blocks)

    def iter_rows(self):
        for block in self.blocks:
            yield from (
                dict(zip(block, row, strict=True))
                for row in zip(*block.values(), strict=True)
            )


def install(monkeypatch, resources):
    """Let ``import ray.data`` and ``import pyarrow`` find the stand-ins.

    Args:
        monkeypatch: Pytest's fixture.
        resources: What the cluster has, as ``{'CPU': 1.0}``.
    """
    ray, data, pyarrow = map(ModuleType, ('ray', 'ray.data', 'pyarrow'))
    ray.data = data
    ray.is_initialized = lambda: True
    ray.cluster_resources = lambda: resources
    ray.exceptions = SimpleNamespace(RayTaskError=ChildProcessError)  # never raised
    data.ActorPoolStrategy = dict
    data.from_arrow = lambda table, override_num_blocks: Rows(
        [{'path': part} for part in np.array_split(table['path'], override_num_blocks)]
    )
    pyarrow.table = dict
    for module in (ray, data, pyarrow):
        monkeypatch.setitem(sys.modules, module.__name__, module)
