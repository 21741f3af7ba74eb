"""A folder of pseudo-labels that mirrors the image tree, one file per image.

``manifest.json`` says what the store holds and which teacher made it. The labels of
``aachen/x.png`` are in ``aachen/x.json``. Files appear whole or not at all, so a
labelling run can be killed at any time and continued. Two processes may fill one store
at once: both write the same. If a store was deleted or replaced by that of another
teacher, a process that still reads or writes the old one ends. Entries include low
scores; ``LoadPseudoAnnotations`` applies the thresholds on reading.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mmcast.datasets.image_names import check_name
from mmcast.datasets.pseudo_label_entry import PseudoLabels, format_entry, parse_entry
from mmcast.files import open_atomic, remove_unfinished, write_atomic

_FORMAT = 'mmcast-pseudo-labels'
_VERSION = 1
_MANIFEST = 'manifest.json'
# A temporary file is locked milliseconds after it was made.
_STALE_SECONDS = 60


@dataclass(frozen=True)
class Teacher:
    """The model that made the labels: names for people, a digest to compare.

    Attributes:
        config: Config file name.
        checkpoint: Checkpoint file name.
        digest: SHA-256 of the checkpoint file, hexadecimal.
    """

    config: str
    checkpoint: str
    digest: str

    @classmethod
    def from_files(cls, config: str | Path, checkpoint: str | Path) -> 'Teacher':
        """Describe the teacher in a checkpoint file."""
        digest = hashlib.sha256()
        with open(checkpoint, 'rb') as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return cls(Path(config).name, Path(checkpoint).name, digest.hexdigest())


class PseudoLabelStore:
    """Pseudo-labels of one teacher. Use :meth:`create` or :meth:`open` to get one.

    Attributes:
        root: The store's folder.
        classes: Class names; a label is an index into them.
        teacher: The model that made the labels.
        min_score: Instances below this score were not kept.
        max_instances: Most instances that were kept per image.
        views: What the teacher saw of each image: scale, and whether it is mirrored.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        classes: Sequence[str],
        teacher: Teacher,
        min_score: float,
        max_instances: int,
        views: Sequence[str] = ('1',),
    ) -> None:
        self.root = Path(root)
        self.classes = tuple(classes)
        self.teacher = teacher
        self.min_score = min_score
        self.max_instances = max_instances
        self.views = tuple(views)
        self._manifest: tuple[int, ...] | None = None  # as it was last checked

    @classmethod
    def exists(cls, root: str | Path) -> bool:
        """Say whether a folder is a store: an empty one is not."""
        return (Path(root) / _MANIFEST).is_file()

    @classmethod
    def create(
        cls,
        root: str | Path,
        *,
        classes: Sequence[str],
        teacher: Teacher,
        min_score: float = 0.05,
        max_instances: int = 100,
        views: Sequence[str] = ('1',),
    ) -> 'PseudoLabelStore':
        """Make a store, or open an existing one with the same settings.

        Args:
            root: The store's folder.
            classes: Class names in label order.
            teacher: The model that makes the labels; only its digest is compared.
            min_score: Lowest score that is kept.
            max_instances: Most instances that are kept per image.
            views: What the teacher sees of each image.

        Raises:
            ValueError: The folder holds another store, or something else.
        """
        root = Path(root)
        wanted = cls(
            root,
            classes=classes,
            teacher=teacher,
            min_score=min_score,
            max_instances=max_instances,
            views=views,
        )
        if root.exists() and not root.is_dir():
            raise ValueError(f'{root} is a file: point `store` at a folder.')
        # List the folder first: if another process makes the store, its manifest comes
        # before its entries.
        is_used = root.is_dir() and any(
            not path.name.startswith(f'.{_MANIFEST}.') for path in root.iterdir()
        )
        if is_used and not cls.exists(root):
            raise ValueError(
                f'{root} holds files but no {_MANIFEST}, so it is no pseudo-label '
                'store: point `store` at a new or empty folder.'
            )
        manifest = {
            'format': _FORMAT,
            'version': _VERSION,
            'classes': list(wanted.classes),
            'teacher': vars(teacher),
            'min_score': min_score,
            'max_instances': max_instances,
            'views': list(wanted.views),
            'created': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        }
        if not is_used:
            text = json.dumps(manifest, indent=2) + '\n'
            with suppress(FileExistsError):  # another process was faster
                write_atomic(root / _MANIFEST, text, replace=False)
        found = cls.open(root)
        found.check(**wanted._settings())
        return found

    @classmethod
    def open(cls, root: str | Path) -> 'PseudoLabelStore':
        """Open an existing store.

        Raises:
            FileNotFoundError: There is none.
            ValueError: Its manifest is not one of ours.
        """
        path = Path(root) / _MANIFEST
        try:
            return cls(root, **_parse_manifest(json.loads(path.read_bytes())))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f'There is no pseudo-label store at {root} (no {_MANIFEST}): train '
                f'with PseudoLabelHook, or make one with mmcast label.'
            ) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f'{path} is not the manifest of a pseudo-label store of version '
                f'{_VERSION} ({error}): delete the folder, or point `store` '
                'elsewhere.'
            ) from None

    def check(self, **wanted: Any) -> None:
        """Check that the manifest has the wanted settings.

        Args:
            **wanted: Any of ``classes``, ``digest``, ``min_score``,
                ``max_instances``, ``views``.

        Raises:
            ValueError: Something differs; the message names both sides.
        """
        ours = vars(self) | {'digest': self.teacher.digest}
        for key, value in wanted.items():
            value = tuple(value) if key in ('classes', 'views') else value
            if ours[key] != value:
                what = 'teacher checkpoint digest' if key == 'digest' else key
                made_by = f' ({self.teacher.checkpoint})' if key == 'digest' else ''
                raise ValueError(
                    f'The pseudo-labels in {self.root} were made with {what} '
                    f'{ours[key]}{made_by}, but {value} is wanted: delete the '
                    'folder, or point `store` elsewhere.'
                )

    def path(self, name: str) -> Path:
        """Return the path of an image's labels.

        Args:
            name: The image's path relative to the image root.

        Raises:
            ValueError: `check_name` refuses the name, or it is reserved.
        """
        return self.root / _entry(name, self.root)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return the images that have no labels yet, in the order given.

        Raises:
            ValueError: A name is invalid, or two names have the same entry.
        """
        unique = list(names)
        # Hashes first: a million entries and their names take 150 MB.
        every = (hash(_entry(name, self.root)) for name in unique)
        hashes = np.fromiter(every, np.int64, len(unique))
        hashes.sort()
        if (hashes[1:] == hashes[:-1]).any():
            unique = self._without_repeats(unique)
        present = {path for path, _ in self._walk()}
        return [name for name in unique if _entry(name, self.root) not in present]

    def _without_repeats(self, names: Iterable[str]) -> list[str]:
        entries: dict[str, str] = {}
        for name in names:
            entry = _entry(name, self.root)
            if entries.setdefault(entry, name) != name:
                raise ValueError(
                    f'{entries[entry]} and {name} would share the pseudo-labels '
                    f'{entry}: rename one of the images.'
                )
        return [*entries.values()]

    def remove_leftovers(self) -> None:
        """Delete the temporary files of writers that were killed."""
        for path, hidden in self._walk():
            if hidden:
                remove_unfinished(self.root / path, _STALE_SECONDS)

    def write(
        self,
        name: str,
        size: tuple[int, int],
        labels: Sequence[int] | np.ndarray,
        scores: Sequence[float] | np.ndarray,
        bboxes: Sequence[Sequence[float]] | np.ndarray,
        masks_rle: Sequence[dict[str, Any]],
        class_scores: Sequence[float] | np.ndarray | None = None,
        mask_qualities: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        """Write the labels of one image, n instances in any order.

        Args:
            name: The image's path relative to the image root.
            size: Image height and width in pixels.
            labels: Class indices, shape (n,).
            scores: Confidences in [0, 1], shape (n,).
            bboxes: Boxes xyxy in pixels, shape (n, 4).
            masks_rle: n compressed COCO RLE dicts (``counts`` bytes or str).
            class_scores: How sure the teacher is of the class, in [0, 1], shape (n,);
                None if it has no such number.
            mask_qualities: How good the teacher thinks the mask is, as the other one.

        Raises:
            FileNotFoundError: The store was deleted.
            ValueError: A label is outside the classes, the lengths differ, or the store
                was replaced by another one.
        """
        entry = format_entry(
            name, size, labels, scores, bboxes, masks_rle, class_scores, mask_qualities
        )
        parse_entry(entry, name, len(self.classes))
        path = self.path(name)
        self._check_unchanged()
        with open_atomic(path) as file:
            file.write(json.dumps(entry, separators=(',', ':')).encode() + b'\n')
            self._check_unchanged()

    def read(self, name: str) -> PseudoLabels:
        """Read the labels of one image.

        Raises:
            FileNotFoundError: The image has no labels.
            ValueError: The file is damaged or no pseudo-label file, or the store was
                replaced by another one.
        """
        path = self.path(name)
        self._check_unchanged()
        try:
            entry = json.loads(path.read_bytes())
            return parse_entry(entry, name, len(self.classes))
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{name} has no pseudo-labels in {self.root}: train with '
                f'PseudoLabelHook, or label what is missing with mmcast label.'
            ) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f'{path} is not a whole pseudo-label file of {name} ({error}): delete '
                'this file and start again. Only this image is labelled again.'
            ) from None

    def entries(self) -> Iterator[tuple[str, PseudoLabels]]:
        """Yield the name and the labels of every labelled image, sorted by entry.

        Raises:
            ValueError: A file is damaged or no pseudo-label file.
        """
        for path in sorted(path for path, hidden in self._walk() if not hidden):
            try:
                entry = json.loads((self.root / path).read_bytes())
                name: Any = entry.get('image') if isinstance(entry, dict) else None
                if _entry(name, self.root) != path:
                    raise ValueError(f'it belongs to image {name!r}')
                labels = parse_entry(entry, name, len(self.classes))
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f'{self.root / path} is not a pseudo-label file ({error}): delete '
                    'it and start again.'
                ) from None
            yield name, labels

    def _settings(self) -> dict[str, Any]:
        """Return what two stores must share to hold the same labels."""
        return dict(
            classes=self.classes,
            digest=self.teacher.digest,
            min_score=self.min_score,
            max_instances=self.max_instances,
            views=self.views,
        )

    def _check_unchanged(self) -> None:
        """Check that no other store has taken this one's place.

        Somebody may delete the folder while a process still works with it, and label
        with another teacher.
        """
        found = None
        with suppress(FileNotFoundError):
            status = os.stat(self.root / _MANIFEST)
            found = status.st_ino, status.st_mtime_ns, status.st_size
        if found is None or found != self._manifest:
            self.open(self.root).check(**self._settings())
            self._manifest = found

    def _walk(self) -> Iterator[tuple[str, bool]]:
        """Yield the relative path of each entry, and of each temporary file (True).

        One directory walk, since a ``stat`` for each of 100,000 names is slow.
        """
        for folder, _, files in os.walk(self.root):
            relative = Path(folder).relative_to(self.root).as_posix()
            prefix = '' if relative == '.' else f'{relative}/'
            for file in files:
                is_entry = file.endswith('.json')
                hidden = not is_entry and file.startswith('.') and '.json.' in file
                if hidden or (is_entry and prefix + file != _MANIFEST):
                    yield prefix + file, hidden


def find_shared(names: Iterable[str]) -> list[str]:
    """Return the images whose labels would be in the file of an earlier image.

    Their names differ from an earlier one in the suffix alone.

    Raises:
        ValueError: A name is invalid.
    """
    owner: dict[str, str] = {}
    return [
        name for name in names if owner.setdefault(_entry(name, Path()), name) != name
    ]


def _parse_manifest(manifest: Any) -> dict[str, Any]:
    """Return the arguments of the store; raise a ValueError if they are not whole."""
    if not isinstance(manifest, dict):
        raise ValueError('it is no JSON object')
    if (manifest.get('format'), manifest.get('version')) != (_FORMAT, _VERSION):
        raise ValueError(
            f'format {str(manifest.get("format"))[:100]!r}, '
            f'version {str(manifest.get("version"))[:100]!r}'
        )
    classes: Any = manifest.get('classes')
    teacher: Any = manifest.get('teacher')
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError('its classes are no list of names')
    if (
        not isinstance(teacher, dict)
        or teacher.keys() != {field.name for field in fields(Teacher)}
        or not all(isinstance(value, str) for value in teacher.values())
    ):
        raise ValueError('its teacher is not config, checkpoint and digest')
    min_score: Any = manifest.get('min_score')
    most: Any = manifest.get('max_instances')
    if type(min_score) not in (int, float) or not 0 <= min_score <= 1:
        raise ValueError('its min_score is no number from 0 to 1')
    if type(most) is not int or most < 0:
        raise ValueError('its max_instances is no count')
    views: Any = manifest.get('views', ['1'])  # older stores have none
    if not isinstance(views, list) or not all(isinstance(v, str) for v in views):
        raise ValueError('its views are no list of names')
    return dict(
        classes=classes,
        teacher=Teacher(**teacher),
        min_score=float(min_score),
        max_instances=most,
        views=views,
    )


def _entry(name: Any, root: Path) -> str:
    # Text only: pathlib takes seconds for 100,000 names.
    folder, slash, file = check_name(name, root).rpartition('/')
    entry = f'{folder}{slash}{file.rpartition(".")[0] or file}.json'
    if entry == _MANIFEST:
        raise ValueError(
            f'{root}: {name!r} would overwrite {_MANIFEST}: rename the image.'
        )
    return entry
