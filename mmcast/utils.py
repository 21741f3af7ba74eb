"""Small helpers that several packages need and no library offers."""

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.model import is_model_wrapper


@contextmanager
def open_atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that appears whole or not at all.

    Content goes to a temporary name in the same folder. At the end it is flushed to
    disk and renamed; after an exception it is removed.

    Args:
        path: The file; an existing one is replaced, missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file that appears whole or not at all.

    Args:
        path: The file; an existing one is replaced, missing parent folders are made.
        content: Text (written as UTF-8) or bytes.
    """
    with open_atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def check_writable(folder: str | os.PathLike[str], remedy: str) -> None:
    """Check that files can be made in a folder, or the folder itself; leave nothing.

    Raises:
        OSError: They cannot; the message ends with the remedy.
    """
    parent = Path(folder).absolute()
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OSError(
            f'cannot write in {folder} ({error.strerror}): change its permissions, or '
            f'{remedy}'
        ) from error


def tool(name: str) -> str:
    """Return the command that runs a tool, wherever the package is installed.

    Args:
        name: Path of the script below ``tools``, which is installed with the package.
    """
    path = (Path(__file__).parent / '.mim' / 'tools' / name).resolve()
    here = Path.cwd()
    return f'python {path.relative_to(here) if path.is_relative_to(here) else path}'


def outside_compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that ``torch.compile`` must call as it is.

    The same as ``torch.compiler.disable``, which takes half a second to import
    ``torch._dynamo``, even if nothing is ever compiled.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if 'torch._dynamo' not in sys.modules:
            return function(*args, **kwargs)
        return torch.compiler.disable(function)(*args, **kwargs)

    return call


def unwrapped(model: Any) -> Any:
    """Return the model inside a wrapper for distribution, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
