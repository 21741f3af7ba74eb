"""Write files that appear whole or not at all."""

import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def open_atomic(
    path: str | os.PathLike[str], replace: bool = True
) -> Iterator[BinaryIO]:
    """Open a file for writing that appears whole or not at all.

    Content goes to a temporary name in the same folder. At the end it is flushed to
    disk and renamed; after an exception it is removed. Until then it is locked, so that
    `remove_unfinished` of another process keeps it.

    Args:
        path: The file; missing parent folders are made.
        replace: Whether to replace an existing file.

    Raises:
        FileExistsError: With ``replace=False`` there is such a file at the end.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            if replace:
                os.replace(temporary, path)
            else:
                _rename_to_new(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomic(
    path: str | os.PathLike[str], content: str | bytes, replace: bool = True
) -> None:
    """Write a file that appears whole or not at all.

    Args:
        path: The file; missing parent folders are made.
        content: Text (written as UTF-8) or bytes.
        replace: Whether to replace an existing file.

    Raises:
        FileExistsError: With ``replace=False`` there is such a file.
    """
    with open_atomic(path, replace) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_new(files: Mapping[Path, str], remedy: str) -> None:
    """Write text files, but change none that is there.

    Args:
        files: Path to text.
        remedy: What the user can do if a file has another text.

    Raises:
        FileExistsError: Some have; nothing was written.
    """
    other = [
        f"'{path}'"
        for path, text in files.items()
        if path.exists() and path.read_bytes() != text.encode()
    ]
    if other:
        raise FileExistsError(f'there with other content: {", ".join(other)}; {remedy}')
    for path, text in files.items():
        write_atomic(path, text)


def remove_unfinished(path: str | os.PathLike[str], min_age: float) -> None:
    """Delete a temporary file of `open_atomic` if its writer was killed.

    Args:
        path: The temporary file.
        min_age: Keep a file that was written to in the last so many seconds: its writer
            may not have locked it yet.
    """
    # Open for writing, as NFS needs it for a lock.
    with if_writable(), suppress(FileNotFoundError), open(path, 'rb+') as file:
        age = time.time() - os.fstat(file.fileno()).st_mtime
        if age > min_age and lock(file) is not False:
            os.unlink(path)


def remove_killed(files: Iterable[Path]) -> None:
    """Delete those of the files that killed calls of `open_atomic` have left."""
    for path in files:
        if re.fullmatch(r'\..+\.[a-z0-9_]{8}', path.name) and path.is_file():
            remove_unfinished(path, 0)


def is_read_only(error: OSError) -> bool:
    """Say whether a file or folder may only be read: its permissions, or the mount."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def if_writable() -> Iterator[None]:
    """End the block without an error at what may only be read."""
    try:
        yield
    except OSError as error:
        if not is_read_only(error):
            raise


def create_locked(folder: str | os.PathLike[str], prefix: str) -> tuple[BinaryIO, Path]:
    """Make a file that is locked as long as its writer lives.

    It gets its name after the lock, so a file of this name without a lock is one that a
    killed writer left.

    Args:
        folder: It is made if it is missing.
        prefix: Start of the file's name.

    Returns:
        The file without a buffer, and its path.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix='.new.')
    file = os.fdopen(handle, 'wb', buffering=0)
    lock(file)
    os.chmod(temporary, 0o666 & ~_umask())
    path = folder / f'{prefix}{Path(temporary).name[5:]}'
    os.rename(temporary, path)
    return file, path


def lock(file: BinaryIO) -> bool | None:
    """Lock a file until it is closed, or its process ends.

    Returns:
        Whether it is locked now: False if another process holds it, None if the system
        has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _rename_to_new(temporary: str, path: Path) -> None:
    """Rename a file to a name that must be free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: a short time is left for two writers.
        if path.exists():
            raise FileExistsError(str(path)) from None
        os.replace(temporary, path)
    else:
        os.unlink(temporary)


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


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


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written, before the work for it; leave nothing.

    Raises:
        OSError: It is a folder, or its folder cannot be written.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"'{path}' is a folder: give the path of a file")
    check_writable(Path(path).absolute().parent, 'give another file')


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
