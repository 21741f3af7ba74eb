"""Restore `numpy.in1d` for cityscapesscripts' evaluation.

What breaks: cityscapesscripts 2.3.0 calls `numpy.in1d`, but numpy 2.4 has removed it.
Its instance-level evaluation, and so mmdet's `CityScapesMetric`, fails with an
AttributeError at the first prediction.

The cure: set the name to the successor that numpy's release notes give.

Remove it when cityscapesscripts' newest release calls `numpy.isin`.
"""

import numpy as np
import numpy.typing as npt


def _in1d(
    ar1: npt.ArrayLike,
    ar2: npt.ArrayLike,
    assume_unique: bool = False,
    invert: bool = False,
) -> npt.NDArray[np.bool_]:
    return np.isin(np.ravel(ar1), ar2, assume_unique=assume_unique, invert=invert)


def apply() -> None:
    """Set `numpy.in1d` if numpy no longer has it."""
    if not hasattr(np, 'in1d'):
        setattr(np, 'in1d', _in1d)  # noqa: B010, a name that numpy's stubs lack
