"""Run commands, and load the script that sets up an environment."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import mmcast

ROOT = Path(mmcast.__file__).resolve().parents[1]
STACKS = sorted(
    path.stem.removeprefix('stack_')
    for path in (ROOT / 'requirements').glob('stack_*.txt')
)


def sh(*command: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
    line = [str(part) for part in command]
    return subprocess.run(line, capture_output=True, text=True, **kwargs)


def load_setup_env() -> ModuleType:
    path = ROOT / 'tools' / 'misc' / 'setup_env.py'
    spec = importlib.util.spec_from_file_location('setup_env', path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
