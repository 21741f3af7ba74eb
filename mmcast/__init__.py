"""mmcast: semi-supervised instance segmentation as a plugin of MMDetection 3.x.

Importing it (a config does so with `custom_imports`) checks the versions of the
OpenMMLab packages, bridges known gaps between them and registers every module in
`mmdet.registry`. In a tool of mmdet or mmcast, it shows errors in one line. Only the
command `mmcast` does this later, by `load`, so that its help comes at once.
"""

import importlib
import sys

from . import errors
from .version import __version__

_ROOMS = (
    'apis',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'package_weights',
    'visualization',
)


def load() -> None:
    """Check the versions, bridge the gaps and register every module.

    Raises:
        ImportError: A package is missing, or has an unsupported version.
    """
    if f'{__name__}.{_ROOMS[-1]}' in sys.modules:
        return
    from ._requirements import check_requirements

    check_requirements()
    # Must run before anything imports `mmdet.models`.
    from . import compat

    compat.apply()
    for name in _ROOMS:
        importlib.import_module(f'{__name__}.{name}')


errors.install()
if not errors.is_command():
    load()

__all__ = ['__version__', 'errors', 'load']
