"""Write a page that shows what trainings did."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ('jinja2', 'matplotlib')


def report(
    work_dirs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
) -> Path:
    """Write one page that shows what a method's stages did.

    It has the table of models, their curves, the pseudo-labels, AP by class and size,
    and images with instances. It reads what the stages leave; what is not there is left
    out. Validation images need the predictions of a test::

        mim test mmdet CONFIG --checkpoint FOLDER/student.pth --work-dir FOLDER/test \\
            --cfg-options test_evaluator.outfile_prefix=FOLDER/test/predictions

    The page is one file and asks no network for anything.

    Args:
        work_dirs: Work folders of stages, or folders above them; one or several.
        out: The HTML file; None for ``report.html`` in the first folder.

    Returns:
        The HTML file.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
        FileNotFoundError: A folder does not exist.
        OSError: The file cannot be written.
        ValueError: There is nothing to show, or a file is damaged.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'the report needs {" and ".join(missing)}: pip install {" ".join(missing)}'
        )
    from mmcast.report.page import write_report

    if isinstance(work_dirs, str | os.PathLike):
        work_dirs = [work_dirs]
    folders = [Path(each) for each in work_dirs]
    if not folders:
        raise ValueError('no work folder is given: give one of a stage that ran')
    target = Path(out) if out else folders[0] / 'report.html'
    write_report(folders, target)
    return target
