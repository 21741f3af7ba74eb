"""Small things that several rooms need and no library offers."""

import hashlib
import os
import platform
import re
import tempfile
from pathlib import Path

import torch


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file that appears whole or not at all.

    The content goes to a temporary name in the same folder, is flushed to disk
    and renamed; missing parent folders are made.

    Args:
        path: Where the file shall appear; an existing file is replaced.
        content: Text (written as UTF-8) or bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def digest(*paths: Path) -> str:
    """SHA-256 of configs and weights, hexadecimal: another one, another run.

    Args:
        *paths: Files, and folders, of which all ``.py`` and ``.pth`` files count with
            their names.
    """
    total = hashlib.sha256()
    for root in paths:
        inside = (p for p in root.rglob('*') if p.suffix in ('.py', '.pth'))
        for path in sorted(inside) if root.is_dir() else [root]:
            total.update(path.relative_to(root).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def hardware(device: str) -> str:
    """Name of a GPU ``'cuda...'``, or of the processor and its number of cores."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name(device)
    listing = Path('/proc/cpuinfo')
    text = listing.read_text() if listing.is_file() else ''
    found = re.search(r'^model name\s*: (.+)', text, re.MULTILINE)
    name = found[1].strip() if found else platform.machine()
    return f'{name}, {os.cpu_count()} cores'


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
