"""Images in tar files, as WebDataset writes them: ``tar://FOLDER`` as an image folder.

An image's name is that of its member, in whichever tar of the folder it is. So lists
and pseudo-labels of a folder of images fit the tars of the same images. Its path is
``tar://FOLDER!/NAME``, which MMEngine reads by the backend here: every transform that
reads a file reads it.

``.images.HASH.sqlite`` in the folder has the place of each member; HASH is that of the
index's version and of the tars' names, sizes and times. It is made by the first reader.
Nothing is ever extracted.
"""

import contextlib
import hashlib
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmengine.fileio import BaseStorageBackend, register_backend

from mmcast.files import is_read_only, lock, remove_unfinished

from .image_names import check_name, is_image

PREFIX = 'tar://'
_INDEX = '.images.'
_STALE_SECONDS = 60  # an index that is being made may not be locked yet
_VERSION = 2  # of the index; raise it if other members count as images


def in_tars(folder: str | os.PathLike[str]) -> bool:
    """Say whether an image folder is one of tars: ``tar://FOLDER``."""
    return str(folder).startswith(PREFIX)


def image_path(folder: str | os.PathLike[str], name: str) -> str:
    """Return the path that reads an image.

    Args:
        folder: A folder of images, or ``tar://FOLDER``.
        name: The image's name.
    """
    return f'{folder}!/{name}' if in_tars(folder) else os.path.join(folder, name)


class ImageTars:
    """The images in the tars of a folder.

    Args:
        folder: ``tar://FOLDER``.

    Raises:
        FileNotFoundError: There is no tar in it.
        OSError: The index cannot be written.
        ValueError: A tar is compressed or cannot be read, or a name is invalid or in
            two tars.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder.removeprefix(PREFIX) or '.')
        self.tars = sorted(path.name for path in self.folder.glob('[!.]*.tar'))
        if not self.tars:
            raise FileNotFoundError(
                f"there is no .tar file in '{self.folder}' (looked in "
                f"'{os.getcwd()}'): put the tars there, or correct the folder"
            )
        packed = [
            path.name
            for pattern in ('[!.]*.tar.*', '[!.]*.tgz', '[!.]*.tbz2', '[!.]*.txz')
            for path in self.folder.glob(pattern)
        ]
        if packed:
            raise ValueError(
                f"'{self.folder / min(packed)}' is compressed: give uncompressed tar "
                'files, or move it elsewhere'
            )
        digest = hashlib.sha256(f'{_VERSION}\n'.encode())
        for name in self.tars:
            found = (self.folder / name).stat()
            digest.update(f'{name}\n{found.st_size} {found.st_mtime_ns}\n'.encode())
        self._index = self.folder / f'{_INDEX}{digest.hexdigest()[:16]}.sqlite'
        self._opened: tuple[int, sqlite3.Connection] | None = None
        if not self._index.is_file():
            self._make_index()

    def names(self) -> list[str]:
        """Return the names of all images, sorted."""
        rows = self._connection().execute('SELECT name FROM images ORDER BY name')
        return [name for (name,) in rows]

    def missing(self, names: list[str]) -> list[int]:
        """Return the places of the names that no tar has."""
        return [place for place, name in enumerate(names) if self._find(name) is None]

    def read(self, name: str) -> bytes:
        """Return the bytes of an image.

        Raises:
            FileNotFoundError: No tar has it, or its tar is gone.
        """
        row = self._find(name)
        if row is None:
            raise FileNotFoundError(f"no tar in '{self.folder}' has '{name}'")
        tar, place, size = row
        with open(self.folder / self.tars[tar], 'rb') as file:
            file.seek(place)
            return file.read(size)

    def _find(self, name: str) -> tuple[int, int, int] | None:
        query = 'SELECT tar, place, size FROM images WHERE name = ?'
        return self._connection().execute(query, (name,)).fetchone()

    def _connection(self) -> sqlite3.Connection:
        """Return this process's own connection: a fork must not use its parent's."""
        if self._opened is None or self._opened[0] != os.getpid():
            uri = f'{self._index.absolute().as_uri()}?mode=ro&immutable=1'
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._opened = os.getpid(), connection
        return self._opened[1]

    def _make_index(self) -> None:
        try:
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=_INDEX)
        except OSError as error:
            if not is_read_only(error):
                raise
            raise OSError(
                f"cannot write the index of the tars into '{self.folder}' "
                f'({error.strerror}): change its permissions, or make a folder of '
                'links to the tars'
            ) from error
        with os.fdopen(handle, 'wb') as held:
            lock(held)
            try:
                with contextlib.closing(sqlite3.connect(temporary)) as table:
                    self._fill(table)
                os.chmod(temporary, 0o644)
                os.replace(temporary, self._index)
            finally:
                Path(temporary).unlink(missing_ok=True)
        for path in self.folder.glob(f'{_INDEX}*'):
            if path.suffix != '.sqlite':
                remove_unfinished(path, _STALE_SECONDS)
            elif path != self._index:
                path.unlink(missing_ok=True)

    def _fill(self, table: sqlite3.Connection) -> None:
        table.execute('PRAGMA journal_mode = OFF')
        table.execute('PRAGMA cache_size = -500000')  # names come in any order
        table.execute(
            'CREATE TABLE images (name TEXT PRIMARY KEY, tar INT, place INT, size INT) '
            'WITHOUT ROWID'
        )
        for number, tar in enumerate(self.tars):
            path = self.folder / tar
            rows = ((name, number, at, size) for name, at, size in _members(path))
            try:
                table.executemany('INSERT INTO images VALUES (?, ?, ?, ?)', rows)
            except sqlite3.IntegrityError:
                raise ValueError(
                    f"'{path}' has an image whose name is in the tars already: give "
                    'all images of a folder names of their own'
                ) from None
        table.commit()


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, place and size of each image in a tar, as a folder's are found."""
    try:
        with tarfile.open(path, 'r:') as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all
                name = member.name.removeprefix('./')
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                if not plain or member.issparse():
                    continue
                if is_image(name):
                    yield check_name(name, path), member.offset_data, member.size
    except tarfile.TarError as error:
        raise ValueError(
            f"'{path}' cannot be read ({error}): give uncompressed tar files"
        ) from None


@register_backend('tar', prefixes='tar')
class TarBackend(BaseStorageBackend):
    """Reads ``tar://FOLDER!/NAME`` for MMEngine."""

    def __init__(self) -> None:
        self._folders: dict[str, ImageTars] = {}

    def get(self, filepath: str) -> bytes:
        """Return the bytes of an image."""
        folder, _, name = str(filepath).partition('!/')
        if folder not in self._folders:
            self._folders[folder] = ImageTars(folder)
        return self._folders[folder].read(name)

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Return the text of a member."""
        return self.get(filepath).decode(encoding)
