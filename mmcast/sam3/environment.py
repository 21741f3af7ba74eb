"""The environment that SAM 3 runs in: made once, then used as it is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

# What works, and the version that is installed if there is none: those that were tried.
# Three equals signs keep pip from taking a "+cpu" build of only one of the first two.
NEEDS = {
    'torch>=2.6': 'torch===2.13.0',
    'torchvision>=0.21': 'torchvision===0.28.0',
    'transformers>=5.24,<6': 'transformers==5.24.0',
    'opencv-python-headless': 'opencv-python-headless==5.0.0.93',
    'pycocotools': 'pycocotools==2.0.11',
}
# Runs there: prints the version of Python, and of each package if it is installed.
_PROBE = """
import importlib.metadata as metadata, json, sys
every = metadata.distributions()
found = {each.metadata['Name'].lower(): each.version for each in every}
print(json.dumps([sys.version_info[:2], found]))
"""


def python_of(folder: str | Path) -> str:
    """Return the Python of an environment for SAM 3, which is made or completed.

    Args:
        folder: The environment.

    Raises:
        RuntimeError: There is no Python of 3.11 or newer, or pip could not install.
        ValueError: The folder is another kind of environment.
    """
    folder = Path(folder).absolute()
    python = folder / 'bin' / 'python'
    if not python.exists():
        is_ours = (folder / 'pyvenv.cfg').is_file()  # one that was killed
        if not is_ours and folder.exists() and any(folder.iterdir()):
            raise ValueError(
                f'{folder} is no environment of Python: remove it, or give another '
                'folder as --env'
            )
        print(f'making {folder}, an environment for SAM 3 (minutes)', flush=True)
        _run([_new_python(), '-m', 'venv', str(folder)], folder)
    version, found = json.loads(_run([str(python), '-I', '-c', _PROBE], folder))
    if 'mmengine' in found or 'onedl-mmengine' in found:
        raise ValueError(
            f'{folder} has OpenMMLab, which does not run with transformers 5: give '
            'another folder as --env; it is made if it does not exist'
        )
    if tuple(version) < (3, 11):
        raise ValueError(
            f'{folder} has Python {version[0]}.{version[1]}, and transformers 5 needs '
            '3.11: remove it, or give another folder as --env'
        )
    missing = [pin for need, pin in NEEDS.items() if not _satisfied(need, found)]
    if missing:
        print(f'installing into {folder}: {" ".join(missing)}', flush=True)
        if 'pip' not in found:  # killed while it was made, or made without
            _run([str(python), '-I', '-m', 'ensurepip'], folder)
        _run([str(python), '-I', '-m', 'pip', 'install', '-q', *missing], folder)
    return str(python)


def _satisfied(need: str, found: dict[str, str]) -> bool:
    from packaging.requirements import Requirement

    wanted = Requirement(need)
    version = found.get(wanted.name)
    return version is not None and wanted.specifier.contains(version, prereleases=True)


def _new_python() -> str:
    if sys.version_info >= (3, 11):
        return sys.executable
    for name in ('python3.13', 'python3.12', 'python3.11'):
        if path := shutil.which(name):
            return path
    raise RuntimeError(
        'SAM 3 needs Python 3.11 or newer (transformers 5), and none is found: install '
        'one, make an environment with it, and give the folder as --env'
    )


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f'{" ".join(command[:4])} ... failed (its message is above): repair the '
            f'cause and start again, or remove {folder}'
        )
    return done.stdout
