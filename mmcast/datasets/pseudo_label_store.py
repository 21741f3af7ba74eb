"""The pseudo-labels of many images, in one of two layouts.

``manifest.json`` says what the store holds and which teacher made it. In a *folder* the
labels of ``aachen/x.png`` are the file ``aachen/x.json``; *shards* hold some thousand
images each, for more images than a file system likes to have files
(:mod:`mmcast.datasets.label_shards`). Labels appear whole or not at all, so a labelling
run can be killed at any time and continued. Processes may fill one store at once: all
write the same. If a store was deleted or replaced by that of another teacher, a process
that still reads or writes the old one ends. Entries include low scores;
``LoadPseudoAnnotations`` applies the thresholds on reading.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mmcast.datasets.image_names import check_name
from mmcast.datasets.pseudo_label_entry import PseudoLabels, format_entry, parse_entry
from mmcast.files import write_atomic

from .label_folder import LabelFolder
from .label_shards import LabelShards
from .store_manifest import (
    LAYOUTS,
    VERSION,
    Teacher,
    format_manifest,
    parse_manifest,
)

_MANIFEST = 'manifest.json'


class PseudoLabelStore:
    """Pseudo-labels of one teacher. Use :meth:`create` or :meth:`open` to get one.

    Attributes:
        root: The store's folder.
        classes: Class names; a label is an index into them.
        teacher: The model that made the labels.
        min_score: Instances below this score were not kept.
        max_instances: Most instances that were kept per image.
        views: What the teacher saw of each image: scale, and whether it is mirrored.
        layout: How the labels are stored: ``'folder'`` or ``'shards'``.
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
        layout: str = 'folder',
    ) -> None:
        self.root = Path(root)
        self.classes = tuple(classes)
        self.teacher = teacher
        self.min_score = min_score
        self.max_instances = max_instances
        self.views = tuple(views)
        self.layout = layout
        self.files: LabelFolder | LabelShards = (
            LabelShards(self.root, self._check_unchanged)
            if layout == 'shards'
            else LabelFolder(self.root, _MANIFEST, self._check_unchanged)
        )
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
        layout: str | None = None,
    ) -> 'PseudoLabelStore':
        """Make a store, or open an existing one with the same settings.

        Args:
            root: The store's folder.
            classes: Class names in label order.
            teacher: The model that makes the labels; only its digest is compared.
            min_score: Lowest score that is kept.
            max_instances: Most instances that are kept per image, at least 1.
            views: What the teacher sees of each image.
            layout: ``'folder'`` or ``'shards'``; None for that of an existing store, or
                a folder.

        Raises:
            ValueError: The folder holds another store, or something else; or there is
                no such layout.
        """
        root = Path(root)
        if layout not in (None, *LAYOUTS):
            raise ValueError(f'layout is {layout!r}: give {" or ".join(LAYOUTS)}')
        if max_instances < 1:
            raise ValueError(f'max_instances is {max_instances}: give at least 1')
        wanted = cls(
            root,
            classes=classes,
            teacher=teacher,
            min_score=min_score,
            max_instances=max_instances,
            views=views,
            layout=layout or 'folder',
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
        if not is_used:
            text = format_manifest(wanted)
            with suppress(FileExistsError):  # another process was faster
                write_atomic(root / _MANIFEST, text, replace=False)
        found = cls.open(root)
        found.check(**wanted.settings())
        if layout not in (None, found.layout):
            raise ValueError(
                f'{root} has the layout {found.layout}, but {layout} is wanted: change '
                'it with mmcast store convert, or point `store` elsewhere.'
            )
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
            return cls(root, **parse_manifest(json.loads(path.read_bytes())))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f'There is no pseudo-label store at {root} (no {_MANIFEST}): train '
                f'with PseudoLabelHook, or make one with mmcast label.'
            ) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f'{path} is not the manifest of a pseudo-label store of version '
                f'{VERSION} ({error}): delete the folder, or point `store` '
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

    def has_other_settings(self, teacher: Teacher) -> bool:
        """Say whether a teacher labels with other settings now, as far as is known."""
        ours, theirs = self.teacher.settings, teacher.settings
        return '' not in (ours, theirs) and ours != theirs

    def check_outside(self, out: str | Path) -> None:
        """Check that what is made of the store is not written into it.

        Raises:
            ValueError: ``out`` is the store's folder or inside it.
        """
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(self.root)):
            raise ValueError(
                f'{out} is inside the store {self.root}, which it would damage: give a '
                'path outside it'
            )

    def path(self, name: str) -> Path:
        """Return the file with an image's labels; a shard holds those of others, too.

        Args:
            name: The image's path relative to the image root.

        Raises:
            ValueError: `check_name` refuses the name, or it is reserved.
        """
        return self.files.path(_entry(name, self.root))

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
        has = self.files.has(_entry(name, self.root) for name in unique)
        return [name for name, found in zip(unique, has, strict=True) if not found]

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
        """Delete what killed writers left; in shards, save the whole entries of it."""
        self.files.remove_leftovers(self.parse)

    def flush(self) -> None:
        """Finish writing: only then do readers see all that was written to shards."""
        self.files.flush()

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

        In a folder they replace earlier ones, in shards they do not.

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
        content = json.dumps(entry, separators=(',', ':')).encode() + b'\n'
        self._check_unchanged()
        self.files.put(_entry(name, self.root), content)

    def read(self, name: str) -> PseudoLabels:
        """Read the labels of one image.

        Raises:
            FileNotFoundError: The image has no labels.
            ValueError: The file is damaged or no pseudo-label file, or the store was
                replaced by another one.
        """
        entry = _entry(name, self.root)
        self._check_unchanged()
        try:
            content = self.files.get(entry)
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{name} has no pseudo-labels in {self.root}: train with '
                f'PseudoLabelHook, or label what is missing with mmcast label.'
            ) from None
        try:
            return parse_entry(json.loads(content), name, len(self.classes))
        except (ValueError, RecursionError) as error:
            only = 'this image is' if self.layout == 'folder' else 'its images are'
            raise ValueError(
                f'{self.path(name)} is not a whole pseudo-label file of {name} '
                f'({error}): delete this file and start again. Only {only} labelled '
                'again.'
            ) from None

    def owner(self, name: str) -> str | None:
        """Return the image that an image's entry belongs to.

        It is another one if their names differ in the suffix alone. None if there is no
        entry, or one that :meth:`read` refuses.
        """
        entry = _entry(name, self.root)
        with suppress(FileNotFoundError, ValueError):
            return self.parse(entry, self.files.get(entry))[0]
        return None

    def names(self) -> Iterator[str]:
        """Yield the name of every labelled image, in the order of :meth:`entries`.

        Masks are neither decoded nor checked.

        Raises:
            ValueError: A file is no pseudo-label file.
        """
        for entry, content in self.files.all():
            try:
                yield self._name(entry, json.loads(content))
            except (ValueError, RecursionError) as error:
                raise self._damaged(entry, error) from None

    def entries(self) -> Iterator[tuple[str, PseudoLabels]]:
        """Yield the name and the labels of every labelled image.

        A folder is sorted by name; shards come one after the other.

        Raises:
            ValueError: A file is damaged or no pseudo-label file.
        """
        for entry, content in self.files.all():
            try:
                name, labels = self.parse(entry, content)
            except ValueError as error:
                raise self._damaged(entry, error) from None
            yield name, labels

    def _damaged(self, entry: str, error: Exception) -> ValueError:
        return ValueError(
            f'{self.files.path(entry)} is not a pseudo-label file ({error}): delete it '
            'and start again.'
        )

    def _name(self, entry: str, parsed: Any) -> str:
        """Return the name of the image that an entry's JSON is of."""
        name: Any = parsed.get('image') if isinstance(parsed, dict) else None
        if _entry(name, self.root) != entry:
            raise ValueError(f'it belongs to image {str(name)[:100]!r}')
        return name

    def parse(self, entry: str, content: bytes) -> tuple[str, PseudoLabels]:
        """Return name and labels of the image that an entry is of.

        Args:
            entry: Where it is stored, as ``aachen/x.json``.
            content: Its JSON.

        Raises:
            ValueError: It is damaged, or belongs elsewhere.
        """
        try:
            parsed = json.loads(content)
            name = self._name(entry, parsed)
            return name, parse_entry(parsed, name, len(self.classes))
        except RecursionError as error:
            raise ValueError(f'{error}') from None

    def settings(self) -> dict[str, Any]:
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
            self.open(self.root).check(**self.settings())
            self._manifest = found


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


def _entry(name: Any, root: Path) -> str:
    # Text only: pathlib takes seconds for 100,000 names.
    folder, slash, file = check_name(name, root).rpartition('/')
    entry = f'{folder}{slash}{file.rpartition(".")[0] or file}.json'
    if entry == _MANIFEST:
        raise ValueError(
            f'{root}: {name!r} would overwrite {_MANIFEST}: rename the image.'
        )
    return entry
