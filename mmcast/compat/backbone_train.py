"""Let `.train()` and `.eval()` of mmpretrain's backbones return the module.

What breaks: mmpretrain's backbones (1.2, onedl's 1.3 too) override `train` to freeze
stages, and do not return the module as torch's `train` does. So
`model = build(...).eval()` is None.

The cure: every such `train` also returns its module (`eval` is `train(False)`).

Remove it when mmpretrain returns `self`.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator

import torch


def _returning_self(train: Callable[..., object]) -> Callable[..., torch.nn.Module]:
    @functools.wraps(train)
    def wrapper(self: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
        train(self, mode)
        return self

    wrapper.returns_self = True  # type: ignore[attr-defined]
    return wrapper


def _with_subclasses(cls: type[torch.nn.Module]) -> Iterator[type[torch.nn.Module]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _with_subclasses(subclass)


def apply() -> None:
    """Make `train` of mmpretrain's backbones return the module, if it is installed."""
    if importlib.util.find_spec('mmpretrain') is None:
        return
    from mmpretrain.models.backbones.base_backbone import BaseBackbone

    for cls in _with_subclasses(BaseBackbone):
        train = cls.__dict__.get('train')
        if train is not None and not hasattr(train, 'returns_self'):
            setattr(cls, 'train', _returning_self(train))  # noqa: B010
