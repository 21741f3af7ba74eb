"""Helpers for scripts that run many trainings: do a run once, digest its inputs."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmcast.utils import write_atomic


def once(path: Path, key: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what ``action()`` returns, from a file if an earlier call made it.

    Args:
        path: JSON file for the result and its key.
        key: What the result depends on; with another key the action runs again.
        action: Called without arguments; its result must fit into JSON.
    """
    if path.is_file():
        found = json.loads(path.read_text())
        if found['key'] == key:
            return found['result']
    result = action()
    write_atomic(path, json.dumps(dict(key=key, result=result), indent=1) + '\n')
    return result


def digest(*parts: Path | str) -> str:
    """Return the SHA-256 of files, folders and texts as hexadecimal text.

    Args:
        *parts: Texts, files, and folders. In a folder, all ``.py`` and ``.pth`` files
            count, with their names.
    """
    total = hashlib.sha256()
    for root in parts:
        if isinstance(root, str):
            total.update(root.encode())
            continue
        inside = (p for p in root.rglob('*') if p.suffix in ('.py', '.pth'))
        for path in sorted(inside) if root.is_dir() else [root]:
            total.update(path.relative_to(root).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def mim(
    *words: Any,
    log: Path,
    threads: int = 1,
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Run ``mim`` with its output in a file.

    Args:
        *words: Its arguments.
        log: The file.
        threads: Number of threads for its arithmetic.
        on_line: Called with each line of output.

    Raises:
        RuntimeError: The command failed; the message has its last lines.
    """
    command = [str(word) for word in words]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open('w', buffering=1) as file,
        subprocess.Popen(
            [str(Path(sys.executable).with_name('mim')), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                'OMP_NUM_THREADS': str(threads),
                'PYTHONUNBUFFERED': '1',
            },
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            on_line(line)
    if process.returncode != 0:
        tail = '\n'.join(log.read_text().splitlines()[-15:])
        raise RuntimeError(
            f'{tail}\n"mim {" ".join(command)}" failed; the whole output is in {log}'
        )


def hardware(device: str) -> str:
    """Return the name of a GPU (``'cuda...'``), or of the processor with its cores."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name(device)
    listing = Path('/proc/cpuinfo')
    text = listing.read_text() if listing.is_file() else ''
    found = re.search(r'^model name\s*: (.+)', text, re.MULTILINE)
    name = found[1].strip() if found else platform.machine()
    return f'{name}, {os.cpu_count()} cores'
