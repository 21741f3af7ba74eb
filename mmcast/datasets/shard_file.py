"""A shard: a tar file with the labels of up to 4096 images, and a table of them.

``tar`` and WebDataset read it; ``aachen/x.json`` is a member for the image
``aachen/x.png``. The last member, ``__index__``, is the table: hash and place of each
member. WebDataset passes it over. A finished shard is named after its SHA-256.

All bytes of a shard follow from names and labels. A reader compares each header with
the one it would write itself, so links, absolute names and false sizes are refused, and
nothing is ever extracted. A killed writer leaves a file whose whole members can be read
in order; :func:`save_unfinished` makes a shard of them.
"""

import hashlib
import os
import struct
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmcast.files import create_locked, if_writable, lock, sha256

MOST_MEMBERS = 4096
OPEN = '.open.'
# A member of more bytes is damage, or an attack on memory.
_MOST_BYTES = 1 << 28
_LONGEST_NAME = 4096
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_TABLE = '__index__'
_FOOTER = struct.Struct('<8sQ')
_MAGIC = b'mmshard1'


def hashes(names: Iterable[str]) -> np.ndarray:
    """Return 128 bits of the BLAKE2 hash of each name, uint64, shape (2, n)."""
    data = b''.join(
        hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names
    )
    return np.frombuffer(data, '<u8').reshape(-1, 2).T


class ShardWriter:
    """Writes members to an open shard, which readers do not see until it is sealed.

    Args:
        folder: Where the shard will be.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self.path = create_locked(folder, OPEN)
        self._digest = hashlib.sha256()
        self._end = 0
        self._names: list[str] = []
        self._places: list[int] = []

    @property
    def is_empty(self) -> bool:
        """Whether it has no member, as after a failed write of the first one."""
        return not self._names

    @property
    def is_full(self) -> bool:
        """Whether it has as many members as a shard can have."""
        return len(self._names) == MOST_MEMBERS

    def add(self, name: str, content: bytes) -> None:
        """Append a member; a process that is killed afterwards does not lose it.

        Raises:
            OSError: It cannot be written, as on a full disk; the shard is as before.
            ValueError: It is too large.
        """
        if len(content) > _MOST_BYTES:
            raise ValueError(f'the labels of {name} take over {_MOST_BYTES} bytes')
        place = self._end
        self._append(_header(name, len(content)) + _padded(content))
        self._names.append(name)
        self._places.append(place)

    def seal(self) -> Path:
        """Finish the shard, flush it to disk and give it its name."""
        table = np.vstack([hashes(self._names), np.array(self._places, np.uint64)])
        content = _table_bytes(table)
        self._append(_header(_TABLE, len(content)) + content + _END)
        self._file.truncate(self._end)
        os.fsync(self._file.fileno())
        path = self.path.with_name(f'{self._digest.hexdigest()}.tar')
        os.replace(self.path, path)
        self._file.close()
        return path

    def drop(self) -> None:
        """Delete the open shard."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, data: bytes) -> None:
        # From the end of the last whole member, as a failed write may leave a piece.
        self._file.seek(self._end)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._digest.update(data)
        self._end += len(data)


def save_unfinished(path: Path, check: Callable[[str, bytes], object]) -> None:
    """Make a shard of the whole members that a killed writer left.

    The file of a living writer stays, and so does one in a file system without locks,
    where nobody knows.

    Args:
        path: The file, named ``.open.*``.
        check: Raises a ValueError for a member that is no entry. Such a member and all
            behind it are lost, as after a power failure.
    """
    with if_writable(), suppress(FileNotFoundError), open(path, 'rb+') as file:
        # Its writer may have sealed it between the opening and the lock.
        if not lock(file) or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return
        writer: ShardWriter | None = None
        place = 0
        with suppress(ValueError):
            while True:
                name, content, end = read_member(file, place)
                check(name, content)
                writer = writer or ShardWriter(path.parent)
                writer.add(name, content)
                if writer.is_full:
                    break
                place = end
        if writer:
            writer.seal()
        path.unlink()


def read_member(file: BinaryIO, place: int) -> tuple[str, bytes, int]:
    """Read the member at a place.

    Returns:
        Its name, its content and the place of the next one.

    Raises:
        ValueError: There is none as :class:`ShardWriter` writes it.
    """
    file.seek(place)
    head = first = file.read(_BLOCK)
    name = first[:100].rstrip(b'\0')
    if first[156:157] == b'x':
        length = _size(first, _LONGEST_NAME)
        record = file.read(length + -length % _BLOCK)
        name = record[:length].partition(b'path=')[2][:-1]
        first = file.read(_BLOCK)
        head += record + first
    size = _size(first, _MOST_BYTES)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise ValueError('the name of a member is not UTF-8') from None
    if head != _header(text, size):
        raise ValueError(f'the member {text[:100]!r} is not a plain file of its size')
    content = file.read(size + -size % _BLOCK)
    if len(content) < size + -size % _BLOCK or content[size:].strip(b'\0'):
        raise ValueError(f'the member {text[:100]!r} is cut off')
    return text, content[:size], place + len(head) + len(content)


def read_table(path: Path) -> np.ndarray:
    """Read which members a shard has: hashes and places, uint64, shape (3, n).

    Raises:
        ValueError: It is no shard, or cut off.
    """
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        place = size - len(_END) - _FOOTER.size
        magic, count = b'', 0
        if place > 0:
            file.seek(place)
            magic, count = _FOOTER.unpack(file.read(_FOOTER.size))
        if magic != _MAGIC or not 0 < count <= MOST_MEMBERS:
            raise ValueError('it has no table of its members')
        length = _table_length(count)
        start = size - len(_END) - length - _BLOCK
        if start <= 0:
            raise ValueError('it has no table of its members')
        name, content, _ = read_member(file, start)
        if name != _TABLE or len(content) != length or file.read() != _END:
            raise ValueError('it has no table of its members')
    table = np.frombuffer(content, '<u8', 3 * count).reshape(3, count)
    places = table[2]
    if places[0] != 0 or (places[1:] <= places[:-1]).any() or places[-1] >= start:
        raise ValueError('the places in its table are not in order')
    return table


def verify(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member, and check all bytes of a shard.

    Raises:
        ValueError: Its digest, a member or the table is wrong.
    """
    if sha256(path) != path.stem:
        raise ValueError('its SHA-256 is not its name')
    table = read_table(path)
    with open(path, 'rb') as file:
        place = 0
        for high, low, expected in table.T.tolist():
            name, content, end = read_member(file, place)
            if place != expected or hashes([name])[:, 0].tolist() != [high, low]:
                raise ValueError(f'the table does not fit the member {name[:100]!r}')
            yield name, content
            place = end
        if read_member(file, place)[0] != _TABLE:
            raise ValueError('it has a member that is not in its table')


def _header(name: str, size: int) -> bytes:
    """Return the header of a regular file, in POSIX's pax format if it needs that."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _size(block: bytes, most: int) -> int:
    try:
        size = int(block[124:135], 8)
    except ValueError:
        raise ValueError('it ends in the middle, or is no tar file') from None
    if not 0 <= size <= most:
        raise ValueError(f'a member has the size {size}')
    return size


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _BLOCK)


def _table_length(count: int) -> int:
    length = 24 * count + _FOOTER.size
    return length + -length % _BLOCK


def _table_bytes(table: np.ndarray) -> bytes:
    content = table.astype('<u8').tobytes()
    count = table.shape[1]
    return content.ljust(_table_length(count) - _FOOTER.size, b'\0') + _FOOTER.pack(
        _MAGIC, count
    )
