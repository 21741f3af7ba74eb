"""A folder of pseudo-labels that mirrors the image tree, one file an image.

``manifest.json`` says what the store holds and which teacher made it; the labels of
``aachen/x.png`` lie in ``aachen/x.json``. Files appear whole or not at all, so a
labelling run can be killed at any moment and continued. Entries are stored
generously; thresholds are applied on reading (see ``LoadPseudoAnnotations``).
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmcast.datasets.rle import is_whole, to_rle
from mmcast.utils import write_atomic

_FORMAT = 'mmcast-pseudo-labels'
_VERSION = 1
_MANIFEST = 'manifest.json'
# A write takes milliseconds: a temporary file older than this has lost its writer.
_STALE_SECONDS = 60


@dataclass(frozen=True)
class Teacher:
    """Who made the labels: names for people, the digest for comparison.

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
        """Describe the teacher that lies in ``checkpoint`` (read in pieces)."""
        digest = hashlib.sha256()
        with open(checkpoint, 'rb') as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return cls(Path(config).name, Path(checkpoint).name, digest.hexdigest())


@dataclass(frozen=True)
class PseudoLabels:
    """The labels of one image, n instances in descending score.

    Attributes:
        size: Image height and width in pixels.
        labels: Class indices, int64, shape (n,).
        scores: Confidences in [0, 1], float32, shape (n,).
        bboxes: Boxes xyxy in pixels, float32, shape (n, 4).
        masks: Compressed COCO RLE dicts with ``size`` and ``counts`` (str).
    """

    size: tuple[int, int]
    labels: np.ndarray
    scores: np.ndarray
    bboxes: np.ndarray
    masks: list[dict[str, Any]]


class PseudoLabelStore:
    """Pseudo-labels of one teacher. Made by :meth:`create` or :meth:`open`.

    Attributes:
        root: The store's folder.
        classes: Class names; a label is an index into them.
        teacher: Who made the labels.
        min_score: Instances below this score were not kept.
        max_instances: At most so many instances of an image were kept.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        classes: Sequence[str],
        teacher: Teacher,
        min_score: float,
        max_instances: int,
    ) -> None:
        self.root = Path(root)
        self.classes = tuple(classes)
        self.teacher = teacher
        self.min_score = min_score
        self.max_instances = max_instances

    @classmethod
    def create(
        cls,
        root: str | Path,
        *,
        classes: Sequence[str],
        teacher: Teacher,
        min_score: float = 0.05,
        max_instances: int = 100,
    ) -> 'PseudoLabelStore':
        """Make a store, or open the one that is there if it is of the same kind.

        Args:
            root: The store's folder.
            classes: Class names in label order.
            teacher: Who makes the labels; stores agree if the digests do.
            min_score: Lowest score that is kept.
            max_instances: Most instances that are kept per image.

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
        )
        if (root / _MANIFEST).exists():
            found = cls.open(root)
            found.check(
                classes=wanted.classes,
                digest=teacher.digest,
                min_score=min_score,
                max_instances=max_instances,
            )
            return found
        if root.exists() and not root.is_dir():
            raise ValueError(f'{root} is a file: point `store` at a folder.')
        if root.is_dir() and any(
            not path.name.startswith(f'.{_MANIFEST}.') for path in root.iterdir()
        ):
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
            'created': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        }
        write_atomic(root / _MANIFEST, json.dumps(manifest, indent=2) + '\n')
        return wanted

    @classmethod
    def open(cls, root: str | Path) -> 'PseudoLabelStore':
        """Open an existing store.

        Raises:
            FileNotFoundError: There is none.
            ValueError: Its manifest is not one of ours.
        """
        path = Path(root) / _MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            if (manifest['format'], manifest['version']) != (_FORMAT, _VERSION):
                raise ValueError(f'format {manifest["format"]} {manifest["version"]}')
            return cls(
                root,
                classes=[str(name) for name in manifest['classes']],
                teacher=Teacher(**manifest['teacher']),
                min_score=float(manifest['min_score']),
                max_instances=int(manifest['max_instances']),
            )
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f'There is no pseudo-label store at {root} (no {_MANIFEST}): train '
                'with PseudoLabelHook or make one with tools/misc/label_images.py.'
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{path} is not the manifest of a pseudo-label store of version '
                f'{_VERSION} ({error!r}): delete the folder, or point `store` '
                'elsewhere.'
            ) from None

    def check(self, **wanted: Any) -> None:
        """Compare the manifest with what is wanted.

        Args:
            **wanted: Any of ``classes``, ``digest``, ``min_score``,
                ``max_instances``.

        Raises:
            ValueError: Something differs; both sides are named.
        """
        ours = vars(self) | {'digest': self.teacher.digest}
        for key, value in wanted.items():
            value = tuple(value) if key == 'classes' else value
            if ours[key] != value:
                what = 'teacher checkpoint digest' if key == 'digest' else key
                made_by = f' ({self.teacher.checkpoint})' if key == 'digest' else ''
                raise ValueError(
                    f'The pseudo-labels in {self.root} were made with {what} '
                    f'{ours[key]}{made_by}, but {value} is wanted: delete the '
                    'folder, or point `store` elsewhere.'
                )

    def path(self, name: str) -> Path:
        """Where the labels of an image lie.

        Args:
            name: The image's path relative to the image root.

        Raises:
            ValueError: The name is absolute, climbs with ``..``, or is reserved.
        """
        return self.root / _entry(name)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Which of these images have no labels yet, in the order given.

        Raises:
            ValueError: A bad name, or two names with the same entry.
        """
        entries: dict[str, str] = {}
        for name in names:
            entry = _entry(name)
            if entries.setdefault(entry, name) != name:
                raise ValueError(
                    f'{entries[entry]} and {name} would share the pseudo-labels '
                    f'{entry}: rename one of the images.'
                )
        present = {path for path, _ in self._walk()}
        return [name for entry, name in entries.items() if entry not in present]

    def remove_leftovers(self) -> None:
        """Delete the temporary files of writers that were killed."""
        for path, hidden in self._walk():
            full = self.root / path
            if hidden and time.time() - full.stat().st_mtime > _STALE_SECONDS:
                full.unlink(missing_ok=True)

    def write(
        self,
        name: str,
        size: tuple[int, int],
        labels: Sequence[int] | np.ndarray,
        scores: Sequence[float] | np.ndarray,
        bboxes: Sequence[Sequence[float]] | np.ndarray,
        masks_rle: Sequence[dict[str, Any]],
    ) -> None:
        """Write the labels of one image; n instances, sorted by score here.

        Args:
            name: The image's path relative to the image root.
            size: Image height and width in pixels.
            labels: Class indices, shape (n,).
            scores: Confidences in [0, 1], shape (n,).
            bboxes: Boxes xyxy in pixels, shape (n, 4).
            masks_rle: n compressed COCO RLE dicts (``counts`` bytes or str).

        Raises:
            ValueError: A label outside the classes, or unequal lengths.
        """
        instances: list[dict[str, Any]] = [
            {
                'label': int(label),
                # Six digits keep a float32 below 1 apart from its neighbours.
                'score': round(float(score), 6),
                'bbox': [round(float(value), 2) for value in bbox],
                'segmentation': {
                    'size': [int(side) for side in rle['size']],
                    'counts': rle['counts'].decode()
                    if isinstance(rle['counts'], bytes)
                    else rle['counts'],
                },
            }
            for label, score, bbox, rle in zip(
                labels, scores, bboxes, masks_rle, strict=True
            )
        ]
        instances.sort(key=lambda instance: -instance['score'])
        entry = {
            'image': name,
            'size': [int(side) for side in size],
            'instances': instances,
        }
        self._parse(name, entry)
        write_atomic(self.path(name), json.dumps(entry, separators=(',', ':')) + '\n')

    def read(self, name: str) -> PseudoLabels:
        """Read the labels of one image.

        Raises:
            FileNotFoundError: The image has no labels.
            ValueError: The file is torn or not ours.
        """
        path = self.path(name)
        try:
            return self._parse(name, json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{name} has no pseudo-labels in {self.root}: train with '
                'PseudoLabelHook or run tools/misc/label_images.py, which label what '
                'is missing.'
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{path} is not a whole pseudo-label file of {name} ({error}): delete '
                'this file and start again; only this image is labelled anew.'
            ) from None

    def names(self) -> Iterator[str]:
        """Names of all images that have labels, sorted by entry."""
        for path in sorted(path for path, hidden in self._walk() if not hidden):
            yield str(_loads(self.root / path)['image'])

    def _walk(self) -> Iterator[tuple[str, bool]]:
        """Relative path of every entry, and of every temporary file (True).

        One directory walk, since a ``stat`` for each of 100,000 names is slow.
        """
        for folder, _, files in os.walk(self.root):
            relative = Path(folder).relative_to(self.root).as_posix()
            prefix = '' if relative == '.' else f'{relative}/'
            for file in files:
                hidden = file.startswith('.') and '.json.' in file
                if hidden or (file.endswith('.json') and prefix + file != _MANIFEST):
                    yield prefix + file, hidden

    def _parse(self, name: str, entry: Any) -> PseudoLabels:
        """Check an entry's content; ValueError, KeyError or TypeError if wrong."""
        if entry['image'] != name:
            raise ValueError(f'it is of image {entry["image"]}')
        height, width = entry['size']
        labels = np.array([i['label'] for i in entry['instances']], np.int64)
        scores = np.array([i['score'] for i in entry['instances']], np.float32)
        bboxes = np.array([i['bbox'] for i in entry['instances']], np.float32)
        masks = [i['segmentation'] for i in entry['instances']]
        if not ((labels >= 0) & (labels < len(self.classes))).all():
            raise ValueError(f'a label is outside the {len(self.classes)} classes')
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError('a score is outside [0, 1]')
        if labels.size and (bboxes.shape[1:] != (4,) or not np.isfinite(bboxes).all()):
            raise ValueError('a box is not four finite numbers')
        for rle in masks:
            if list(rle['size']) != [height, width] or not is_whole(rle):
                raise ValueError(f'a mask does not cover {height}x{width} pixels')
        return PseudoLabels(
            (height, width), labels, scores, bboxes.reshape(-1, 4), masks
        )

    def to_coco(self, path: str | Path) -> None:
        """Export to one COCO JSON file; annotations carry their ``score``.

        Category ids are label + 1, image and annotation ids count from 1.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for name in self.names():
            entry = self.read(name)
            height, width = entry.size
            image_id = len(images) + 1
            images.append(
                {'id': image_id, 'file_name': name, 'height': height, 'width': width}
            )
            for label, score, bbox, rle in zip(
                entry.labels, entry.scores, entry.bboxes, entry.masks, strict=True
            ):
                x1, y1, x2, y2 = (round(float(value), 2) for value in bbox)
                annotations.append(
                    {
                        'id': len(annotations) + 1,
                        'image_id': image_id,
                        'category_id': int(label) + 1,
                        'bbox': [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                        'area': int(mask_utils.area(rle)),
                        'segmentation': rle,
                        'iscrowd': 0,
                        'score': round(float(score), 6),
                    }
                )
        categories = [
            {'id': index + 1, 'name': name} for index, name in enumerate(self.classes)
        ]
        content = {
            'images': images,
            'annotations': annotations,
            'categories': categories,
        }
        write_atomic(path, json.dumps(content, separators=(',', ':')) + '\n')

    @classmethod
    def from_coco(cls, path: str | Path, root: str | Path) -> 'PseudoLabelStore':
        """Make a store from a COCO JSON file, the teacher being that file.

        Categories become classes in the order of their ids; crowd regions are left
        out; an annotation without ``score`` counts 1; an image without annotations
        gets an empty entry.
        """
        content = json.loads(Path(path).read_bytes())
        categories = sorted(content['categories'], key=lambda item: item['id'])
        label_of = {item['id']: label for label, item in enumerate(categories)}
        annotations: dict[int, list[dict[str, Any]]] = {}
        for annotation in content['annotations']:
            if not annotation.get('iscrowd', 0):
                annotations.setdefault(annotation['image_id'], []).append(annotation)
        most = max((len(group) for group in annotations.values()), default=0)
        store = cls.create(
            root,
            classes=[item['name'] for item in categories],
            teacher=Teacher.from_files('COCO JSON', path),
            min_score=0.0,
            max_instances=max(most, 100),
        )
        for image in content['images']:
            size = image['height'], image['width']
            group = annotations.get(image['id'], [])
            store.write(
                image['file_name'],
                size,
                [label_of[a['category_id']] for a in group],
                [a.get('score', 1.0) for a in group],
                [(x, y, x + w, y + h) for x, y, w, h in (a['bbox'] for a in group)],
                [to_rle(a['segmentation'], size) for a in group],
            )
        return store


def _loads(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        content['image']
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f'{path} is not a pseudo-label file: delete it and start again.'
        ) from None
    return content


def _entry(name: str) -> str:
    # Text only: pathlib takes seconds for 100,000 names.
    parts = name.split('/')
    stem = parts[-1].rpartition('.')[0] or parts[-1]
    if any(part in ('', '.', '..') for part in parts) or '\\' in name:
        raise ValueError(
            f'{name!r} is no image name: give the path relative to the image root '
            "(data_prefix['img']), with `/` and without `..`."
        )
    entry = '/'.join([*parts[:-1], f'{stem}.json'])
    if entry == _MANIFEST:
        raise ValueError(f'{name!r} would overwrite {_MANIFEST}: rename the image.')
    return entry
