"""mmcast: semi-supervised instance segmentation as a plugin of MMDetection 3.x.

Importing it (a config does so with `custom_imports`) checks the versions of the
OpenMMLab packages, bridges known gaps between them and registers every module in
`mmdet.registry`. In a tool of mmdet or mmcast, it shows errors in one line.
"""

from . import errors
from ._requirements import check_requirements
from .version import __version__

errors.install()
check_requirements()

# Must run before anything imports `mmdet.models`, so the imports are not sorted.
from . import compat  # noqa: E402

compat.apply()

from . import (  # noqa: E402
    apis,
    datasets,
    engine,
    evaluation,
    models,
    package_weights,
    visualization,
)

__all__ = [
    '__version__',
    'apis',
    'datasets',
    'engine',
    'errors',
    'evaluation',
    'models',
    'package_weights',
    'visualization',
]
