"""Import mmdet and mmpretrain without what no stage needs, for a faster start.

What is slow: `mmdet.models` imports mmpretrain 1.2's multimodal models and helpers of
its own language models, and with them transformers. `mmdet.utils` imports matplotlib's
pyplot for the errors of trackers. torchvision's RoI align imports `torch._dynamo` for
one function. `import mmcast` waits for it, 1.5 of 4.4 s on two cores. `mim train` and
`mim test` gain nothing, since mmdet's own scripts import transformers first.

The cure: transformers counts as missing while mmdet is imported, which both packages
allow for. mmdet's names that come from transformers then load it when they are used, so
a config with Grounding-DINO or GLIP works. The other two functions load when they are
called. mmpretrain's multimodal models are left out, unless transformers is imported
before this package: `custom_imports = dict(imports=['transformers', 'mmcast'])`.

Remove it when mmdet's newest release imports transformers only where it is used.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from . import transformers_names

_LATER = {
    'mmdet.utils.mot_error_visualize': 'imshow_mot_errors',
    'torch._dynamo.utils': 'is_compile_supported',
}
_BORROWED = {
    'mmdet.models.language_models.bert': {
        'AutoTokenizer': 'AutoTokenizer',
        'BertConfig': 'BertConfig',
        'HFBertModel': 'BertModel',
    },
    'mmdet.models.dense_heads.atss_vlfusion_head': {'BertConfig': 'BertConfig'},
    'mmdet.datasets.transforms.text_transformers': {'AutoTokenizer': 'AutoTokenizer'},
}


class Later:
    """An object that is loaded when an attribute of it is asked for, or it is called.

    Args:
        load: Returns the real object.
        arguments: What to call it with.
    """

    def __init__(self, load: Callable[..., Any], *arguments: Any) -> None:
        self._load = partial(load, *arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == '_load':  # of a copy in the making
            raise AttributeError(name)
        return getattr(self._load(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)


def apply() -> None:
    """Import mmdet, without transformers unless it is there already."""
    if importlib.util.find_spec('transformers') is None:
        return
    if 'transformers' in sys.modules or 'mmdet.models' in sys.modules:
        transformers_names.apply()
        return
    with _missing('transformers'), _functions_later():
        # Before any other: it notes once whether transformers is there.
        import mmpretrain.utils.dependency as dependency

        installed, dependency.WITH_MULTIMODAL = dependency.WITH_MULTIMODAL, False
        import mmdet.datasets
        import mmdet.models  # noqa: F401
        from mmengine.registry import OPTIMIZERS
        from mmpretrain.registry import MODELS

        dependency.WITH_MULTIMODAL = installed  # mmpretrain's data sets are as ever
    if 'Adafactor' not in OPTIMIZERS.module_dict:  # mmengine takes it from transformers
        OPTIMIZERS.register_module(name='Adafactor', module=_adafactor)
    for name, build in MODELS.module_dict.items():
        if build.__module__ == dependency.__name__:
            MODELS.module_dict[name] = _left_out(name)
    for place, names in _BORROWED.items():
        module = sys.modules[place]
        for name, theirs in names.items():
            setattr(module, name, Later(_function, 'transformers', theirs))
    fusion: Any = sys.modules['mmdet.models.dense_heads.atss_vlfusion_head']
    fusion.BertEncoderLayer = Later(_bert_encoder_layer)


def _adafactor(*args: Any, **kwargs: Any) -> Any:
    return _function('transformers', 'Adafactor')(*args, **kwargs)


def _bert_encoder_layer() -> Any:
    """Return mmdet's class as it is if transformers is there when mmdet is imported."""
    transformers_names.apply()
    helpers = sys.modules['mmdet.models.utils.vlfuse_helper']
    if helpers.BertConfig is None:
        importlib.reload(helpers)
    return helpers.BertEncoderLayer


def _left_out(name: str) -> Callable[..., Any]:
    def raise_error(*args: Any, **kwargs: Any) -> Any:
        raise ImportError(
            f'mmcast leaves out mmpretrain.{name}, for a faster start: import '
            "transformers first, custom_imports = dict(imports=['transformers', "
            "'mmcast'])"
        )

    return raise_error


@contextmanager
def _missing(package: str) -> Iterator[None]:
    """Make imports of a package fail, as if it were not installed."""
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


@contextmanager
def _functions_later() -> Iterator[None]:
    """Put stand-ins in place of slow modules of which one function is wanted."""
    stand_ins = {}
    for place, name in _LATER.items():
        module = ModuleType(place)
        setattr(module, name, Later(_function, place, name))
        stand_ins[place] = module
        parent = place.rpartition('.')[0]
        if parent.startswith('torch.'):
            stand_ins[parent] = ModuleType(parent)
    stand_ins = {k: v for k, v in stand_ins.items() if k not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for place in stand_ins:
            del sys.modules[place]


def _function(place: str, name: str) -> Any:
    return getattr(importlib.import_module(place), name)
