"""Labels as files: a folder that mirrors the image tree, one file an image."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from mmcast.files import open_atomic, remove_unfinished

from .shard_file import hashes

# A temporary file is locked milliseconds after it was made.
_STALE_SECONDS = 60


class LabelFolder:
    """Names of entries, as ``aachen/x.json``, to bytes.

    A file appears whole or not at all. Two processes may write at once.

    Args:
        root: The folder.
        reserved: The file in it that is no entry.
        check: Called before an entry appears.
    """

    def __init__(self, root: Path, reserved: str, check: Callable[[], None]) -> None:
        self._root = root
        self._reserved = reserved
        self._check = check

    def put(self, name: str, content: bytes) -> None:
        """Write an entry, in place of an earlier one."""
        with open_atomic(self.path(name)) as file:
            file.write(content)
            self._check()

    def flush(self) -> None:
        """Do nothing: entries are there at once."""

    def get(self, name: str) -> bytes:
        """Return an entry.

        Raises:
            FileNotFoundError: There is none.
        """
        return self.path(name).read_bytes()

    def path(self, name: str) -> Path:
        """Return the file that an entry is in, or would be in."""
        return self._root / name

    def has(self, names: Iterable[str]) -> Iterator[bool]:
        """Say for each name whether it has an entry."""
        present = {path for path, _ in self._walk()}
        return (name in present for name in names)

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Yield all entries, sorted by name."""
        for name in self._names():
            yield name, self.get(name)

    def by_hash(self) -> tuple[np.ndarray, Callable[[int], tuple[str, bytes]]]:
        """Return the hashes of all names, (2, n), and what reads the n-th entry."""
        names = self._names()
        return hashes(names), lambda place: (names[place], self.get(names[place]))

    def remove_leftovers(self, check: Callable[[str, bytes], object]) -> None:
        """Delete the temporary files of writers that were killed."""
        for path, hidden in self._walk():
            if hidden:
                remove_unfinished(self._root / path, _STALE_SECONDS)

    def _names(self) -> list[str]:
        return sorted(path for path, hidden in self._walk() if not hidden)

    def _walk(self) -> Iterator[tuple[str, bool]]:
        """Yield the relative path of each entry, and of each temporary file (True).

        One directory walk, since a ``stat`` for each of 100,000 names is slow.
        """
        for folder, _, files in os.walk(self._root):
            relative = Path(folder).relative_to(self._root).as_posix()
            prefix = '' if relative == '.' else f'{relative}/'
            for file in files:
                is_entry = file.endswith('.json')
                hidden = not is_entry and file.startswith('.') and '.json.' in file
                if hidden or (is_entry and prefix + file != self._reserved):
                    yield prefix + file, hidden
