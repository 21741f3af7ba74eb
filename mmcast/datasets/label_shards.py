"""Labels in shards: some thousand images a file, for millions of images.

Each writer has shards of its own, so any number of processes on any number of machines
write at once. What a writer has not sealed yet is not visible; what a killed one left
is saved by the next call of :meth:`LabelShards.remove_leftovers`.

``index.HASH.npy`` finds an image in them: 24 bytes an image, sorted by hash. It is
memory-mapped, so the processes of a machine share its pages. HASH is that of the names
of all shards. So an index never says anything about other shards than those that are
there, and the first reader that finds none makes one.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmcast.files import if_writable, open_atomic, remove_unfinished

from .shard_file import (
    OPEN,
    ShardWriter,
    hashes,
    read_member,
    read_table,
    save_unfinished,
    verify,
)

FOLDER = 'shards'
_IS_SHARD = re.compile(r'[0-9a-f]{64}\.tar')
_IS_INDEX = re.compile(r'index\.[0-9a-f]{16}\.npy')
_TEMPORARY = ('.new.', '.index.')  # of a shard or an index that is being made
_STALE_SECONDS = 60
_NAMES = 1 << 16  # that are looked up together; ten million would take a gigabyte
# A row of the index: two halves of the hash; number of the shard and place in it.
_PLACE_BITS = 40


class LabelShards:
    """Names of entries, as ``aachen/x.json``, to bytes.

    An entry is written once. If two writers write the same one, all readers take the
    same of the two.

    Args:
        root: The store's folder.
        check: Called before an entry is written and before a shard appears.
    """

    def __init__(self, root: Path, check: Callable[[], None]) -> None:
        self._folder = root / FOLDER
        self._check = check
        self._writer: ShardWriter | None = None
        self._shards: list[str] = []
        self._index: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the index itself.
        return vars(self) | {'_writer': None, '_index': None}

    def put(self, name: str, content: bytes) -> None:
        """Append an entry to the open shard."""
        self._check()
        if self._writer is None:
            self._writer = ShardWriter(self._folder)
        self._writer.add(name, content)
        if self._writer.is_full:
            self.flush()

    def flush(self) -> None:
        """Let readers see all entries."""
        writer, self._writer = self._writer, None
        if writer is not None and writer.is_empty:
            writer.drop()
        elif writer is not None:
            try:
                self._check()
            except (OSError, ValueError):
                writer.drop()
                raise
            writer.seal()

    def get(self, name: str) -> bytes:
        """Return an entry.

        Raises:
            FileNotFoundError: There is none.
            ValueError: The shard is damaged.
        """
        # Shards may have come, or may have been merged, since the index was read.
        for again in (False, True):
            if again:
                self._refresh()
            found = self._find(hashes([name]))[0]
            if found >= 0:
                with suppress(FileNotFoundError):
                    return self._nth(int(found))[1]
        raise FileNotFoundError(name)

    def path(self, name: str) -> Path:
        """Return the shard that an entry is in; the shards' folder if none is."""
        found = int(self._find(hashes([name]))[0])
        return self._folder if found < 0 else self._locate(found)[0]

    def has(self, names: Iterable[str]) -> Iterator[bool]:
        """Say for each name whether it has an entry."""
        self._refresh()
        rest = iter(names)
        while some := [*itertools.islice(rest, _NAMES)]:
            yield from (self._find(hashes(some)) >= 0).tolist()

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Yield all entries, one shard after the other."""
        self._refresh()
        for number, shard in enumerate(self._shards):
            path = self._folder / shard
            with _named(path):
                table = read_table(path)
            rows = self._find(table[:2])
            places = (np.uint64(number) << np.uint64(_PLACE_BITS)) | table[2]
            # Of an entry that is in two shards, the index has one.
            chosen = self._rows()[2, rows] == places
            with open(path, 'rb') as file:
                for high, low, place in table[:, chosen].T.tolist():
                    with _named(path):
                        member = _read(file, place, high, low)
                    yield member

    def by_hash(self) -> tuple[np.ndarray, Callable[[int], tuple[str, bytes]]]:
        """Return the hashes of all names, (2, n), and what reads the n-th entry."""
        self._refresh()
        return self._rows()[:2], self._nth

    def verify(self) -> Iterator[tuple[Path, Iterator[tuple[str, bytes]]]]:
        """Yield each shard with an iterator of its entries that checks all bytes."""
        for name in _list_shards(self._folder):
            yield self._folder / name, verify(self._folder / name)

    def others(self) -> tuple[list[Path], int]:
        """Return files that are no shards, and the number of unfinished shards."""
        others, unfinished = [], 0
        for name in sorted(os.listdir(self._folder)) if self._folder.is_dir() else ():
            if name.startswith(OPEN):
                unfinished += 1
            elif name.startswith((*_TEMPORARY, '.nfs')):
                # The next writer removes what a killed one left. NFS keeps under such
                # a name what was removed and is still open.
                continue
            elif not (_IS_SHARD.fullmatch(name) or _IS_INDEX.fullmatch(name)):
                others.append(self._folder / name)
        return others, unfinished

    def remove_leftovers(self, check: Callable[[str, bytes], object]) -> None:
        """Save what killed writers left.

        Args:
            check: Raises a ValueError for what is no entry.
        """
        if not self._folder.is_dir():
            return
        for name in sorted(os.listdir(self._folder)):
            if name.startswith(OPEN):
                save_unfinished(self._folder / name, check)
            elif name.startswith(_TEMPORARY):
                remove_unfinished(self._folder / name, _STALE_SECONDS)

    def _rows(self) -> np.ndarray:
        """Return the index, uint64, shape (3, n)."""
        if self._index is None:
            self._refresh()
        assert self._index is not None
        return self._index

    def _refresh(self) -> None:
        """Read the index of the shards that are there now; make it if it is missing."""
        shards = _list_shards(self._folder)
        if self._index is not None and shards == self._shards:
            return
        self._shards = shards
        digest = hashlib.sha256('\n'.join(shards).encode()).hexdigest()[:16]
        path = self._folder / f'index.{digest}.npy'
        if not shards:
            self._index = np.empty((3, 0), np.uint64)
            return
        self._index = _read_index(path)
        if self._index is None:
            index = build_index(self._folder, shards)
            # A store that may only be read works, too.
            with if_writable():
                with open_atomic(path) as file:
                    np.save(file, index, allow_pickle=False)
                for name in os.listdir(self._folder):
                    if _IS_INDEX.fullmatch(name) and name != path.name:
                        (self._folder / name).unlink(missing_ok=True)
                found = _read_index(path)
                index = index if found is None else found
            self._index = index

    def _find(self, wanted: np.ndarray) -> np.ndarray:
        """Return the row of each hash, int64, shape (n,); -1 for none."""
        index = self._rows()
        length = index.shape[1]
        rows = np.searchsorted(index[0], wanted[0])
        found = np.full(len(rows), -1)
        open_ = np.arange(len(rows))
        while len(open_):
            open_ = open_[rows[open_] < length]
            open_ = open_[index[0, rows[open_]] == wanted[0, open_]]
            here = index[1, rows[open_]] == wanted[1, open_]
            found[open_[here]] = rows[open_[here]]
            open_ = open_[~here]
            rows[open_] += 1  # the same first half
        return found

    def _locate(self, row: int) -> tuple[Path, int]:
        place = int(self._rows()[2, row])
        shard = place >> _PLACE_BITS
        if shard >= len(self._shards):
            raise ValueError(f'the index names shard {shard} of {len(self._shards)}')
        return self._folder / self._shards[shard], place & ((1 << _PLACE_BITS) - 1)

    def _nth(self, row: int) -> tuple[str, bytes]:
        path, place = self._locate(row)
        high, low = self._rows()[:2, row].tolist()
        with _named(path), open(path, 'rb') as file:
            return _read(file, place, high, low)


def _read(file: BinaryIO, place: int, high: int, low: int) -> tuple[str, bytes]:
    """Read the member whose name has this hash."""
    name, content, _ = read_member(file, place)
    if hashes([name])[:, 0].tolist() != [high, low]:
        raise ValueError(f'the index does not fit the member {name[:100]!r}')
    return name, content


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the shard and the remedy in an error of its bytes."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f'{path} is no whole shard ({error}): delete this file and start again. '
            'Only its images are labelled again.'
        ) from None


def build_index(folder: Path, shards: list[str]) -> np.ndarray:
    """Make the index of shards from their tables, uint64, shape (3, n).

    Raises:
        ValueError: A shard is damaged.
    """
    tables = []
    for number, name in enumerate(shards):
        with _named(folder / name):
            table = read_table(folder / name).copy()
        table[2] |= np.uint64(number) << np.uint64(_PLACE_BITS)
        tables.append(table)
    index = np.concatenate(tables, axis=1)
    tables.clear()
    return np.ascontiguousarray(index[:, first_of_each(index)])


def first_of_each(hashes: np.ndarray) -> np.ndarray:
    """Return the order that sorts hashes, (2 or more, n), without repeated ones.

    Of equal ones the first stays.
    """
    order = np.lexsort((hashes[1], hashes[0]))
    high, low = hashes[0, order], hashes[1, order]
    first = np.ones(len(order), bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return order[first]


def _list_shards(folder: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(name for name in os.listdir(folder) if _IS_SHARD.fullmatch(name))
    return []


def _read_index(path: Path) -> np.ndarray | None:
    """Return a memory-mapped index; None if there is none that is whole."""
    with suppress(FileNotFoundError, ValueError, EOFError):
        index = np.load(path, mmap_mode='r', allow_pickle=False)
        if index.dtype == np.uint64 and index.ndim == 2 and len(index) == 3:
            return np.asarray(index)
    return None
