"""Check that mmcast runs with the installed OpenMMLab packages.

Packages are looked up by import name. Upstream's distributions (`mmdet`) and the
maintained forks (`onedl-mmdetection`) share these names, and no pip requirement can say
"either". Supported: mmdet 3.3 to 3.5, mmcv 2.1 to 2.3, mmengine from 0.10.4.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping

from packaging.version import Version

# import name: (first version, first version that is too new)
SUPPORTED = {
    'mmengine': ('0.10.4', '0.11'),
    'mmcv': ('2.1', '2.4'),
    'mmdet': ('3.3', '3.6'),
}
_REMEDY = (
    "install the tested versions: pip install 'mmcast[mim]' with mmcv compiled, or "
    'run `make quickstart` in a clone'
)


def distribution_of(name: str) -> importlib.metadata.Distribution:
    """Return the installed distribution that has a package, as 'onedl-mmdetection'.

    Args:
        name: The package's import name, as 'mmdet'.

    Raises:
        KeyError: No distribution has it.
    """
    return importlib.metadata.distribution(_distributions()[name][0])


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def mim_name() -> str:
    """Return what ``mim train`` calls mmdet; with the forks it is 'mmdetection'."""
    return distribution_of('mmdet').metadata['Name'].removeprefix('onedl-')


def check_requirements() -> None:
    """Check mmengine, mmcv (with its compiled ops) and mmdet; transformers, if any.

    Raises:
        ImportError: If one is missing or has an unsupported version. The message
            names what was found, what is needed and the remedy, in one line.
    """
    for name, (first, beyond) in SUPPORTED.items():
        needed = f'mmcast needs {name} >= {first}, < {beyond}'
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'{needed}, but it is not installed; {_REMEDY}')
        try:
            found = importlib.import_module(name).__version__
        except AssertionError as error:  # mmdet's own version check
            raise ImportError(f'{name} refuses to load: {error} {_REMEDY}') from error
        if not Version(first) <= Version(found) < Version(beyond):
            raise ImportError(f'{needed}, but {found} is installed; {_REMEDY}')
    if importlib.util.find_spec('mmcv._ext') is None:
        raise ImportError(
            'mmcast needs mmcv with its compiled ops, but this mmcv has none '
            f'(mmcv-lite, or built without MMCV_WITH_OPS=1); {_REMEDY}'
        )
    try:
        found = importlib.metadata.version('transformers')
    except importlib.metadata.PackageNotFoundError:
        return
    # Its first release that `mmdet.models` cannot be imported with.
    if Version(found) >= Version('5'):
        raise ImportError(
            f'mmdet does not run with transformers >= 5, but {found} is installed: '
            "pip install 'transformers>=4.56.1,<5'"
        )
