"""Restore names that mmpretrain and mmdet import from an old place in transformers.

What breaks: mmpretrain 1.2 (BLIP, BLIP-2, OFA, RAM) and mmdet 3.3 (GLIP) import
helpers from `transformers.modeling_utils` that transformers 4.52 and later keep
elsewhere. A bare `except` in mmpretrain then makes a class inherit from None. So
`import mmdet.models`, which imports mmpretrain, fails with a TypeError.

The cure: set the missing names in `transformers.modeling_utils`, before the first
import that needs them. In the environment that `make` sets up, every Python runs this
file as it starts and calls `apply_in_time`, so that there `import mmdet.models` may
come before `import mmcast`.

Remove it when mmdet's newest release no longer imports mmpretrain 1.2's multimodal
models, or when these import the names from their new places.
"""

import sys

_HOMES = {
    'apply_chunking_to_forward': 'transformers.pytorch_utils',
    'find_pruneable_heads_and_indices': 'transformers.pytorch_utils',
    'prune_linear_layer': 'transformers.pytorch_utils',
    'GenerationConfig': 'transformers.generation',
    'GenerationMixin': 'transformers.generation',
}


def apply() -> None:
    """Set the moved names in `transformers.modeling_utils`, if it is installed."""
    import importlib.util  # not above, where every Python would wait for it

    if importlib.util.find_spec('transformers') is None:
        return
    old_home = importlib.import_module('transformers.modeling_utils')
    for name, home in _HOMES.items():
        if not hasattr(old_home, name):
            setattr(old_home, name, getattr(importlib.import_module(home), name))


class _AheadOfMmpretrain:
    """A finder that finds nothing; it sees mmpretrain's import begin."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == 'mmpretrain':
            sys.meta_path.remove(self)
            apply()


def apply_in_time() -> None:
    """Call :func:`apply` when mmpretrain is imported, and import nothing now."""
    # By name: Python may run the file twice as it starts.
    name = _AheadOfMmpretrain.__name__
    if all(type(finder).__name__ != name for finder in sys.meta_path):
        sys.meta_path.insert(0, _AheadOfMmpretrain())
