"""Images of any file system as rows of a Ray dataset: for labelling on a cluster.

``s3://BUCKET/FOLDER`` is a folder of images, ``tar://s3://BUCKET/FOLDER`` one of tars
as WebDataset writes them, and ``parquet://s3://BUCKET/FOLDER`` one of Parquet files
with the columns ``path`` and ``bytes`` (or ``image``), or with a column ``image`` that
has both, as Hugging Face writes them. In place of ``s3`` stands any file system that
fsspec knows. Parquet files may be local, too.

Ray reads all of them in its tasks, through fsspec, beside the actors that label.
"""

import itertools
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmcast.apis.label import without_shared
from mmcast.datasets.image_names import IMAGE_SUFFIXES, is_image
from mmcast.datasets.image_tars import PREFIX as TARS
from mmcast.datasets.pseudo_label_store import find_shared
from mmcast.datasets.splits import read_list

PARQUET = 'parquet://'
# Of a CPU, for a task that reads. If actors take the rest, one CPU has room for both.
READER = 0.25
_MOST_READ = 64  # images of a tar or a Parquet file that are together in memory

Batch = dict[str, np.ndarray]


class ImageRows:
    """Images as rows with ``path``, ``bytes``, and ``error`` if they cannot be read.

    Args:
        img_root: See above.

    Raises:
        FileNotFoundError: There is no such folder or file, or no tar or Parquet in it.
        ImportError: The file system needs a package that is missing.
        ValueError: fsspec does not know the file system, or the columns are others.
    """

    def __init__(self, img_root: str) -> None:
        from fsspec.core import url_to_fs

        self.is_parquet = img_root.startswith(PARQUET)
        self.is_tars = img_root.startswith(TARS)
        self.place = img_root.removeprefix(PARQUET if self.is_parquet else TARS)
        try:
            self.files, self.root = url_to_fs(self.place)
        except ImportError as error:
            raise ImportError(
                f"'{self.place}' cannot be read ({error}): pip install s3fs for s3://, "
                'gcsfs for gs://'
            ) from error
        except ValueError as error:
            raise ValueError(
                f"'{self.place}' cannot be read ({error}): begin it with a protocol "
                'that fsspec knows, as s3:// or gs://'
            ) from error
        if not self.files.exists(self.root):
            raise FileNotFoundError(
                f"there is no '{self.place}': correct the folder of the images"
            )
        if self.is_parquet or self.is_tars:
            self.parts = self._parts()

    def names(self, list: str | Path | None) -> Sequence[str] | None:
        """Return the names of a folder's images; None if only reading tells.

        Args:
            list: List of them; None for the whole folder.

        Raises:
            ValueError: The images are no folder, and there is a list; or the folder has
                no image.
        """
        if self.is_parquet or self.is_tars:
            if list is not None:
                raise ValueError(
                    'a list is for a folder of images: tars and Parquet are read '
                    'as a whole, so leave it out'
                )
            return None
        if list is not None:
            return without_shared(read_list(list))
        root = self.root.rstrip('/') + '/'
        found = (path.removeprefix(root) for path in self.files.find(self.root))
        names = sorted(name for name in found if is_image(name))
        if not names:
            raise ValueError(
                f"there is no image below '{self.place}' ({', '.join(IMAGE_SUFFIXES)})"
            )
        return without_shared(names)

    def _parts(self) -> list[str]:
        """Return the tars or Parquet files: one, or those of a folder."""
        if self.files.isfile(self.root):
            parts = [self.root]
        else:
            suffix = '.parquet' if self.is_parquet else '.tar'
            found = self.files.find(self.root)
            parts = [
                path
                for path in found
                if path.endswith(suffix) and not path.rpartition('/')[2].startswith('.')
            ]
            if not parts:
                raise FileNotFoundError(f"there is no {suffix} file in '{self.place}'")
        if self.is_parquet:
            _columns(self.files, parts[0])
        return parts

    def read(self, names: Sequence[str] | None, most: int) -> Any:
        """Return a Ray dataset.

        Args:
            names: Images of a folder to read; None for tars and Parquet, all of them.
            most: Images of a folder that are read together.
        """
        import pyarrow
        import ray.data

        parts: Any = names
        read: Callable = _read_images
        if names is None:
            parts, most = self.parts, 1
            read = _read_parquet if self.is_parquet else _read_tar
        return ray.data.from_arrow(
            pyarrow.table({'path': [*parts]}),
            override_num_blocks=-(-len(parts) // most),
        ).map_batches(
            read, fn_args=(self.files, self.root), batch_size=None, num_cpus=READER
        )


def _rows(paths: Sequence[str], contents: Sequence[bytes | Exception | None]) -> Batch:
    """Return rows; an image has an error if its name or its file is not good."""
    rows: dict[str, list[Any]] = {'path': [], 'bytes': [], 'error': []}
    for path, content in zip(paths, contents, strict=True):
        error = ''
        try:
            find_shared([path])  # the name is valid
        except ValueError as refused:
            error = str(refused)
        if not isinstance(content, bytes):
            reason = 'there are no bytes' if content is None else f'{content!r:.200}'
            error, content = f'{path} ({reason})', b''
        for key, value in zip(rows, (path, content, error), strict=True):
            rows[key].append(value)
    return {key: np.array(values, object) for key, values in rows.items()}


def _read_images(batch: Batch, files: Any, root: str) -> Batch:
    names = [str(name) for name in batch['path']]
    places = [f'{root.rstrip("/")}/{name}' for name in names]
    # Not `cat`, which takes `[`, `?` and `*` in a name for a pattern.
    return _rows(names, files.cat_ranges(places, None, None, on_error='return'))


def _read_tar(batch: Batch, files: Any, _: str) -> Iterator[Batch]:
    for place in batch['path']:
        with (
            _named(place, tarfile.TarError),
            files.open(place) as file,
            tarfile.open(fileobj=file, mode='r|') as tar,
        ):
            images = _in_tar(tar)
            while some := [*itertools.islice(images, _MOST_READ)]:
                yield _rows(*zip(*some, strict=True))


@contextmanager
def _named(place: str, damaged: type[Exception]) -> Iterator[None]:
    """Give errors in a tar or a Parquet file its name."""
    try:
        yield
    except (damaged, OSError) as error:
        text = ' '.join(str(error).split())
        raise ValueError(
            f"'{place}' cannot be read ({text}): if it is damaged, make it again, or "
            'take it out of its folder'
        ) from error


def _in_tar(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        content = tar.extractfile(member) if member.isfile() else None
        if content is not None and is_image(member.name):
            yield member.name.removeprefix('./'), content.read()


def _read_parquet(batch: Batch, files: Any, _: str) -> Iterator[Batch]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    for place in batch['path']:
        columns = _columns(files, place)
        with _named(place, ArrowException), files.open(place) as file:
            parts = ParquetFile(file).iter_batches(_MOST_READ, columns=columns)
            for part in parts:
                rows = part.to_pylist()
                if columns == ['image']:
                    empty = {'path': f'a row of {place}', 'bytes': None}
                    rows = [row['image'] or empty for row in rows]
                path, content = columns if len(columns) > 1 else ('path', 'bytes')
                yield _rows([r[path] for r in rows], [r[content] for r in rows])


def _columns(files: Any, place: str) -> list[str]:
    """Return the columns of a Parquet file that have its images.

    These are one with both path and bytes, or first that of the paths.

    Raises:
        ValueError: It has no such columns, or cannot be read.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema
    from pyarrow.types import is_struct

    with _named(place, ArrowException), files.open(place) as file:
        schema = read_schema(file)
    names = {*schema.names}
    if 'image' in names:
        kind = schema.field('image').type
        if is_struct(kind) and {'path', 'bytes'} <= {field.name for field in kind}:
            return ['image']
        if 'binary' in str(kind) and 'path' in names:
            return ['path', 'image']
    if {'path', 'bytes'} <= names:
        return ['path', 'bytes']
    columns = ', '.join(f'{name} ({schema.field(name).type})' for name in schema.names)
    raise ValueError(
        f"'{place}' has the columns {columns}: give it `path` and `bytes`, or `image` "
        'with both'
    )
