"""Restore names that mmpretrain and mmdet import from an old place in transformers.

What breaks: mmpretrain 1.2 (BLIP, BLIP-2, OFA, RAM) and mmdet 3.3 (GLIP) import
helpers from `transformers.modeling_utils` that transformers 4.52 and later keep
elsewhere. A bare `except` in mmpretrain then makes a class inherit from None. So
`import mmdet.models`, which imports mmpretrain, fails with a TypeError.

The cure: set the missing names in `transformers.modeling_utils`, before the first
import that needs them; `light_imports` calls it.

Remove it when mmdet's newest release no longer imports mmpretrain 1.2's multimodal
models, or when these import the names from their new places.
"""

import importlib
import importlib.util

_HOMES = {
    'apply_chunking_to_forward': 'transformers.pytorch_utils',
    'find_pruneable_heads_and_indices': 'transformers.pytorch_utils',
    'prune_linear_layer': 'transformers.pytorch_utils',
    'GenerationConfig': 'transformers.generation',
    'GenerationMixin': 'transformers.generation',
}


def apply() -> None:
    """Set the moved names in `transformers.modeling_utils`, if it is installed."""
    if importlib.util.find_spec('transformers') is None:
        return
    old_home = importlib.import_module('transformers.modeling_utils')
    for name, home in _HOMES.items():
        if not hasattr(old_home, name):
            setattr(old_home, name, getattr(importlib.import_module(home), name))
