"""Pseudo-labels from and to COCO JSON, the form that other tools write and read."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils
from rich.progress import track

from mmcast.console import make_console
from mmcast.files import check_file, write_atomic

from .coco_file import FITTED, CocoFile, read_coco
from .image_names import examples, find_missing
from .image_sizes import loaded_size
from .image_tars import ImageTars, in_tars
from .pseudo_label_entry import PARTS
from .pseudo_label_store import PseudoLabelStore, Teacher
from .store_copy import settle

# It marks our own files: their boxes are kept as they are.
_INFO = {'description': 'labels written by mmcast to-coco'}
COCO_JSON = 'COCO JSON'  # in a store's manifest, in place of a teacher's config


@dataclass(frozen=True)
class Imported:
    """What became of a COCO file.

    Attributes:
        images: Number of images with labels, also with none found.
        instances: Number of instances in the store.
        left_out: Why instances were left out, to how many.
        notes: What else is not as in the file, to how often.
    """

    images: int
    instances: int
    left_out: dict[str, int]
    notes: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f'{self.instances} instances of {self.images} images'
        for why, count in self.left_out.items():
            text += f'; {count} left out: {why}'
        for what, count in self.notes.items():
            text += f'; {what}: {count}'
        return text


def to_coco(store: str | Path, out: str | Path) -> Path:
    """Write all labels of a store, with ``score``, to one COCO JSON file.

    Annotations also have ``class_score`` and ``mask_quality`` if the teacher gave them.
    Category ids are label + 1. Image and annotation ids count from 1. What killed
    writers left is saved first; a warning counts the shards that writers still have
    open, whose labels are not in the file.

    Args:
        store: Folder of the labels.
        out: The file.

    Raises:
        FileNotFoundError: There is no store.
        OSError: The file cannot be written.
        ValueError: A file of the store is damaged, the store is empty, or ``out`` is
            inside it.
    """
    opened = PseudoLabelStore.open(store)
    opened.check_outside(out)
    check_file(out)
    settle(opened)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, entry in opened.entries():
        height, width = entry.size
        image_id = len(images) + 1
        images.append(
            {'id': image_id, 'file_name': name, 'height': height, 'width': width}
        )
        parts = zip(PARTS, (entry.class_scores, entry.mask_qualities), strict=True)
        known = {key: values for key, values in parts if values is not None}
        for i, (label, score, bbox, rle) in enumerate(
            zip(entry.labels, entry.scores, entry.bboxes, entry.masks, strict=True)
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
                    **{key: round(float(each[i]), 6) for key, each in known.items()},
                }
            )
    if not images:
        raise ValueError(f'{store} has no labels: fill it with mmcast label')
    categories = [
        {'id': index + 1, 'name': name} for index, name in enumerate(opened.classes)
    ]
    content = dict(
        info=_INFO, images=images, annotations=annotations, categories=categories
    )
    write_atomic(out, json.dumps(content, separators=(',', ':')) + '\n')
    return Path(out)


def from_coco(
    coco: str | Path,
    store: str | Path,
    *,
    results: str | Path | None = None,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    layout: str | None = None,
) -> Imported:
    """Make a store of the labels that another tool wrote as COCO JSON.

    Annotations are read by `mmcast.datasets.coco_file`: polygons become RLEs, all
    pieces of a mask are one instance, and masks that cannot be read are left out and
    counted. A score that is missing is 1. ``class_score`` and ``mask_quality`` are kept
    where all instances of an image have them. A box whose IoU with its mask's box is
    0.5 or less is replaced by that one, except in a file of `to_coco`. Killed, it can
    be called again.

    Args:
        coco: COCO JSON with images, categories and, without ``results``, annotations.
        store: Folder of the labels.
        results: COCO results, a list of instances with ``score``, for its images.
        images: The image folder. Leading folders of the names are removed if the images
            are found in it then; those that are not in it are counted. Or
            ``tar://FOLDER`` for tars of images.
        classes: Class names of the student, in its order; other categories are left
            out. None for all categories, sorted by their ids.
        layout: How a new store keeps the labels, as for :func:`mmcast.apis.label`.

    Raises:
        FileNotFoundError: A file or the image folder does not exist, or none of the
            images is in it.
        ValueError: A file is no COCO file, a score is outside [0, 1], a class is no
            category of the file or is there twice, no instance is left, an image has
            another size than the file says, two images would share an entry, or the
            folder holds other labels.
    """
    if images is not None and not in_tars(images) and not Path(images).is_dir():
        raise FileNotFoundError(f'{images} is no folder: correct the path')
    content = read_coco(coco, images, results=results)
    wanted = tuple(classes or content.classes)
    unknown = [name for name in wanted if name not in content.classes]
    if unknown:
        raise ValueError(
            f'{coco} has no category {", ".join(unknown)} (it has '
            f'{", ".join(content.classes)}): give --classes as the file names them'
        )
    twice = [name for name in wanted if wanted.count(name) > 1]
    if twice:
        raise ValueError(f'the class {twice[0]!r} is there twice: name each class once')
    label_of = {
        each['id']: wanted.index(each['name'])
        for each in content.categories
        if each['name'] in wanted
    }
    is_ours = results is None and content.info == _INFO
    kept, left_out, notes = _choose(content, label_of, is_ours)
    if not kept:
        why = ', '.join(f'{count} {why}' for why, count in left_out.items())
        raise ValueError(
            f'{results or coco} has no instance for the store: '
            f'{why or "it has no annotations, so give a file with masks"}'
        )
    settings: dict[str, Any] = dict(
        classes=wanted,
        teacher=_teacher(content, results),
        min_score=0.0,
        max_instances=max(len(each) for each in kept.values()),
    )
    sizes = {each['file_name']: each for each in content.images}
    opened = PseudoLabelStore(store, **settings)  # not made yet
    if PseudoLabelStore.exists(store):
        opened = PseudoLabelStore.open(store)
        opened.remove_leftovers()
    todo = opened.missing(sizes)
    if images is not None:
        notes |= _check_images(content, images, todo)
    opened = PseudoLabelStore.create(store, **settings, layout=layout)
    for name in track(todo, 'writing labels', console=make_console(), transient=True):
        found = kept.get(name, [])
        opened.write(
            name,
            (sizes[name]['height'], sizes[name]['width']),
            [label_of[each['category_id']] for each in found],
            [each.get('score', 1.0) for each in found],
            [_box(each) for each in found],
            [_rle(each['segmentation'], sizes[name]) for each in found],
            *(_part(found, key) for key in PARTS),
        )
    opened.flush()
    return Imported(len(sizes), sum(map(len, kept.values())), left_out, notes)


def _choose(
    content: CocoFile, label_of: dict[int, int], is_ours: bool
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int], dict[str, int]]:
    """Return the instances of each image, how many are left out, and how many changed.

    Their ``bbox`` is the predicted box if that is one of the mask, or of our own file.
    """
    left_out = {
        'no mask': len(content.without_mask),
        f'unreadable masks (annotation {examples(content.bad)})': len(content.bad),
        'crowds': 0,
        'other categories': 0,
    }
    replaced = 'boxes replaced by those of their masks (IoU 0.5 or less)'
    lost = f'masks that lost a bad polygon (annotation {examples(content.bad_parts)})'
    notes = {lost: len(content.bad_parts), replaced: 0}
    kept: dict[str, list[dict[str, Any]]] = {}
    for name, every in content.by_image().items():
        for each in every:
            for key in ('score', *PARTS):
                value = each.get(key, 1.0)
                if type(value) not in (int, float) or not 0 <= value <= 1:
                    raise ValueError(
                        f'{content.path}: an instance of {name} has the {key} '
                        f'{value!r:.30}: give a number from 0 to 1'
                    )
            if each['iscrowd']:
                left_out['crowds'] += 1
            elif each['category_id'] not in label_of:
                left_out['other categories'] += 1
            else:
                stated = each.get('predicted_bbox', each['bbox'])
                if is_ours or _iou(each['bbox'], stated) > 0.5:
                    each['bbox'] = stated
                else:
                    notes[replaced] += 1
                kept.setdefault(name, []).append(each)
    return kept, _nonzero(left_out), _nonzero(notes)


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {what: count for what, count in counts.items() if count}


def _check_images(
    content: CocoFile, images: str | Path, todo: Sequence[str]
) -> dict[str, int]:
    """Compare the size of the images ``todo``; return how many of all are missing."""
    stated = {i['file_name']: (i['width'], i['height']) for i in content.images}
    names = list(stated)
    tars = ImageTars(str(images)) if in_tars(images) else None
    # Links may lead anywhere: only headers are read.
    places = tars.missing(names) if tars else find_missing(names, images, os.sep)
    missing = [names[place] for place in places]
    if len(missing) == len(names):
        raise FileNotFoundError(
            f'{images} has none of the {len(names)} images of {content.path}, as '
            f'{examples(names[:1])}: correct the path of the image folder'
        )

    def loaded(name: str) -> tuple[int, int] | None:
        return loaded_size(BytesIO(tars.read(name)) if tars else Path(images, name))

    present = sorted({*todo} - {*missing})
    with ThreadPoolExecutor(8) as pool:
        sizes = track(
            pool.map(loaded, present),
            'comparing sizes',
            total=len(present),
            console=make_console(),
            transient=True,
        )
        differ = [
            '{} is {}x{}, not {}x{}'.format(name, *size, *stated[name])
            for name, size in zip(present, sizes, strict=True)
            if size is not None and size != stated[name]
        ]
    if differ:
        raise ValueError(
            f'{len(differ)} images in {images} have another size than in '
            f'{content.path}: {examples(differ)}. Take the images that were annotated; '
            'if EXIF turns them, save them without EXIF (mogrify -strip), or annotate '
            'them again'
        )
    return _nonzero({f'images not in {images} ({examples(missing)})': len(missing)})


def _part(found: list[dict[str, Any]], key: str) -> list[float] | None:
    """Return a number of each instance; None if one lacks it."""
    return [each[key] for each in found] if all(key in each for each in found) else None


def _teacher(content: CocoFile, results: str | Path | None) -> Teacher:
    """Describe the labels' origin: their files, and names that were fitted."""
    digest = hashlib.sha256()
    for file in (content.path, results):
        if file is not None:
            digest.update(Path(file).read_bytes())
    if content.mended[FITTED]:
        digest.update('\n'.join(i['file_name'] for i in content.images).encode())
    return Teacher(COCO_JSON, Path(results or content.path).name, digest.hexdigest())


def _box(each: dict[str, Any]) -> list[float]:
    """Return (x1, y1, x2, y2)."""
    x, y, width, height = each['bbox']
    return [x, y, x + width, y + height]


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    return float(mask_utils.iou([[*a]], [[*b]], [0])[0][0])


def _rle(mask: Any, image: dict[str, Any]) -> dict[str, Any]:
    if isinstance(mask, dict):
        return mask
    size = image['height'], image['width']
    return mask_utils.merge(mask_utils.frPyObjects(mask, *size))
