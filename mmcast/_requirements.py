"""Which OpenMMLab packages mmcast runs with, checked when it is imported.

They are looked up by import name: upstream's distributions (`mmdet`) and the
maintained forks (`onedl-mmdetection`) share those, and no pip requirement can say
"either". Versions: mmdet 3.3 to 3.5, mmcv 2.1 to 2.3, mmengine from 0.10.4.
"""

import importlib
import importlib.util

from packaging.version import Version

# import name: (first version, first version that is too new)
SUPPORTED = {
    'mmengine': ('0.10.4', '0.11'),
    'mmcv': ('2.1', '2.4'),
    'mmdet': ('3.3', '3.6'),
}
_REMEDY = (
    "install the tried versions: pip install 'mmcast[mim]' with mmcv compiled, or "
    '`make quickstart` in a clone, which does it all'
)


def check_requirements() -> None:
    """Check mmengine, mmcv (with its compiled ops) and mmdet.

    Raises:
        ImportError: If one is missing or of another version than mmcast supports;
            one line that names what was found, what is needed and the remedy.
    """
    for name, (first, beyond) in SUPPORTED.items():
        needed = f'mmcast needs {name} >= {first}, < {beyond}'
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'{needed}, which is not installed; {_REMEDY}')
        try:
            found = importlib.import_module(name).__version__
        except AssertionError as error:  # mmdet's own check of its neighbours
            raise ImportError(f'{name} refuses to load: {error} {_REMEDY}') from error
        if not Version(first) <= Version(found) < Version(beyond):
            raise ImportError(f'{needed}, but {found} is installed; {_REMEDY}')
    if importlib.util.find_spec('mmcv._ext') is None:
        raise ImportError(
            'mmcast needs mmcv with its compiled ops, but this mmcv has none '
            f'(mmcv-lite, or built without MMCV_WITH_OPS=1); {_REMEDY}'
        )
