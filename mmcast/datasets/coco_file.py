"""Read a COCO file, check it and make it what pycocotools and mmdet rely on.

All that read a user's annotations read them here: the look at the data, the training
data set, the drawing of splits, and the files that evaluation is given. What they get
has these properties, whatever tool wrote the file:

* A mask decides about its object. Box and area are those of the mask's pixels. An
  object whose mask is missing, cannot be read or has no pixel is left out; so is a bad
  polygon of a mask with good ones. All are listed.
* Annotation ids are 1..n: pycocotools takes a match with id 0 for none. Image and
  category ids are those of the file if all are whole numbers, and else 1..n.
* ``iscrowd`` is 0 or 1. A region to ignore (``ignore``) is a crowd.
* Categories are sorted by id, the order that evaluation reports them in.
* Names are paths below the image folder, with ``/``.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils

from mmcast.errors import tool

from .coco_values import (
    are_ids,
    area_differs,
    box_differs,
    box_elsewhere,
    has_hole,
    has_pixels,
    id_key,
    is_box,
    is_true,
    read_mask,
    whole_number,
)
from .image_names import check_name, fit_names
from .pseudo_label_entry import PARTS
from .rle import is_size

# A key of `CocoFile.mended`.
FITTED = 'names with other folders in front'


@dataclass
class CocoFile:
    """A COCO file after reading, and what was done to it.

    Attributes:
        path: The file.
        images: Dicts with ``id``, ``file_name``, ``height`` and ``width``.
        annotations: Dicts with ``id``, ``image_id``, ``category_id``, ``bbox``
            (x, y, width, height), ``area``, ``iscrowd``, ``segmentation`` (polygons, or
            an RLE whose counts are a str). Predictions have ``score``, ``class_score``,
            ``mask_quality`` and ``predicted_bbox`` as far as the file has them.
        categories: Dicts with ``id`` and ``name``.
        total: Number of annotations in the file, of the images that were asked for.
        without_mask: Annotations without a mask, as text; they are left out.
        bad: Annotations whose mask cannot be read, with the reason; left out, too.
        bad_parts: Annotations that lost some of their polygons, with the reason.
        filled: Annotations with a polygon inside another one, which the stated area
            leaves out: a hole, which COCO's polygons do not know.
        boxes: Number of annotations with a mask and a stated box in pixels.
        elsewhere: Those of them whose box is far from the mask, as text.
        mended: What was corrected, in a few words, to how often.
        has_id_0: Whether an annotation has id 0, which pycocotools never matches.
        unlike: Why else pycocotools would fail, or read the file in another way.
        info: What the file says about itself.
    """

    path: Path
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    without_mask: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    bad_parts: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    boxes: int = 0
    elsewhere: list[str] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    has_id_0: bool = False
    unlike: list[str] = field(default_factory=list)
    info: Any = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all categories, sorted by id."""
        return tuple(each['name'] for each in self.categories)

    @property
    def shown_classes(self) -> tuple[str, ...]:
        """Names of the categories with an object, sorted by id; crowds do not count."""
        shown = {e['category_id'] for e in self.annotations if not e['iscrowd']}
        return tuple(each['name'] for each in self.categories if each['id'] in shown)

    def by_image(self) -> dict[str, list[dict[str, Any]]]:
        """Return the annotations of each image, by its name."""
        found: dict[Any, list] = {image['id']: [] for image in self.images}
        for each in self.annotations:
            found[each['image_id']].append(each)
        return {image['file_name']: found[image['id']] for image in self.images}

    def classes_of(self) -> dict[str, set[str]]:
        """Return the names of the classes that each image shows; crowds do not count.

        Nothing is learnt from crowds.
        """
        name_of = {each['id']: each['name'] for each in self.categories}
        return {
            image: {name_of[e['category_id']] for e in every if not e['iscrowd']}
            for image, every in self.by_image().items()
        }

    def part(self, names: Collection[str], classes: Sequence[str]) -> dict[str, Any]:
        """Return some images with their objects as a COCO dict; all ids are 1..n.

        Args:
            names: The images.
            classes: The categories, in the order that they get their ids in; objects of
                other ones are left out.
        """
        label = {name: i for i, name in enumerate(classes, 1)}
        name_of = {each['id']: each['name'] for each in self.categories}
        chosen = set(names)
        kept = [each for each in self.images if each['file_name'] in chosen]
        place = {image['id']: i for i, image in enumerate(kept, 1)}
        objects = [
            each
            for each in self.annotations
            if each['image_id'] in place and name_of[each['category_id']] in label
        ]
        return dict(
            images=[{**image, 'id': place[image['id']]} for image in kept],
            annotations=[
                {
                    **{key: each[key] for key in each if key != 'predicted_bbox'},
                    'id': i,
                    'image_id': place[each['image_id']],
                    'category_id': label[name_of[each['category_id']]],
                }
                for i, each in enumerate(objects, 1)
            ],
            categories=[dict(id=i, name=name) for name, i in label.items()],
        )


def read_coco(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    names: Collection[str] | None = None,
    results: str | os.PathLike[str] | None = None,
) -> CocoFile:
    """Read a COCO file.

    Args:
        path: The file; UTF-8 or UTF-16, with or without a byte order mark.
        folder: The image folder. Leading folders of the names are removed if the images
            are found in it then, as for absolute paths of another machine.
        names: Only annotations of these images are read; None for all.
        results: File with COCO results, a list, to read in place of the annotations.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no COCO file, a field is missing, `check_name` refuses the
            name of an image, two images or used categories have one name, or an
            annotation belongs to an unknown image or category.
    """
    whole = _parse(path)
    content = _check_lists(path, whole)
    if results is not None:
        content['annotations'] = _check_list(results, 'results', _parse(results))
    found = CocoFile(Path(path), info=whole.get('info'))
    image_ids = _read_images(found, content['images'], folder)
    used = Counter(id_key(each.get('category_id')) for each in content['annotations'])
    category_ids = _read_categories(found, content['categories'], used)
    image_of = {image['id']: image for image in found.images}
    raw_ids: list[Any] = []
    for raw in content['annotations']:
        place = _belongs(found, raw, image_ids, category_ids)
        image = image_of[place[0]]
        if names is not None and image['file_name'] not in names:
            continue
        found.total += 1
        raw_ids.append(raw.get('id'))
        _read_annotation(found, raw, image, place[1])
    if not are_ids(raw_ids, least=1):
        found.mended['annotation ids'] = len(raw_ids)
        found.has_id_0 = are_ids(raw_ids)
        if not found.has_id_0:
            found.unlike.append('its annotation ids are no different whole numbers')
    if found.without_mask or found.bad:
        count = len(found.without_mask) + len(found.bad)
        found.unlike.append(f'{count} of its objects have no mask that can be read')
    return found


def _parse(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(missing_annotations(path)) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"'{path}' is not a COCO JSON file ({error}): write it again"
        ) from None


def _check_lists(
    path: str | os.PathLike[str], content: Any
) -> dict[str, list[dict[str, Any]]]:
    if not isinstance(content, dict) or not {'images', 'categories'} <= set(content):
        raise ValueError(
            f"'{path}' is not a COCO file (no 'images' or no 'categories'): give the "
            'JSON that a converter wrote, or your own'
        )
    return {
        key: _check_list(path, key, content.get(key) or [])
        for key in ('images', 'categories', 'annotations')
    }


def _check_list(
    path: str | os.PathLike[str], key: str, items: Any
) -> list[dict[str, Any]]:
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        raise ValueError(f"the {key} in '{path}' are no list of objects: correct it")
    return items


def _read_images(
    found: CocoFile, images: list[dict[str, Any]], folder: Any
) -> dict[Any, int]:
    """Read the images; return their new ids by the old ones."""
    path = found.path
    names = [_name(found, image) for image in images]
    if folder is not None:
        fitting = fit_names(names, folder)
        found.mended[FITTED] += sum(a != b for a, b in zip(names, fitting, strict=True))
        names = fitting
    ids = _ids(found, images, 'images', 'image')
    seen: set[str] = set()
    for raw, name, new in zip(images, names, ids.values(), strict=True):
        if check_name(name, path) in seen:
            raise ValueError(
                f"'{path}' names '{name}' twice among its images: keep one of them, "
                'with the annotations that count, or make the file_name of each unique'
            )
        seen.add(name)
        sides = [whole_number(raw.get('height')), whole_number(raw.get('width'))]
        if not is_size(sides):
            stated = f'{raw.get("height")!r:.30} and {raw.get("width")!r:.30}'
            raise ValueError(
                f"image '{name}' in '{path}' has the height and width {stated}: give "
                'the size of the image in pixels'
            )
        if not all(type(raw[side]) is int for side in ('height', 'width')):
            _note_unlike(found, 'a size of an image is no whole number')
        image = dict(id=new, file_name=name, height=sides[0], width=sides[1])
        found.images.append(image)
    return ids


def _name(found: CocoFile, image: dict[str, Any]) -> str:
    """Return an image's name with ``/`` between folders and without ``.``."""
    name = image.get('file_name')
    if not isinstance(name, str):
        what = 'no file_name' if name is None else f'the file_name {name!r:.50}'
        raise ValueError(
            f"one of the images in '{found.path}' has {what}: make it text"
        )
    clean = name.replace('\\', '/')
    parts = [part for part in clean.split('/') if part not in ('', '.')]
    clean = '/' * clean.startswith('/') + '/'.join(parts)
    found.mended['names with backslashes or ./'] += clean != name
    return clean


def _read_categories(
    found: CocoFile, categories: list[dict[str, Any]], used: Mapping[Any, int]
) -> dict[Any, int]:
    """Read the categories; return their new ids by the old ones."""
    for each in categories:
        if not isinstance(each.get('name'), str):
            raise ValueError(
                f"one of the categories in '{found.path}' has the name "
                f'{each.get("name")!r:.50}: make it text'
            )
    of_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in categories:
        of_name[each['name']].append(each)
    kept = []
    for name, same in of_name.items():
        # Roboflow adds an unused root, which may have the name of a class.
        with_objects = [each for each in same if used.get(id_key(each.get('id')))]
        if len(with_objects) > 1:
            raise ValueError(
                f"'{found.path}' names '{name}' twice among its categories: make the "
                'name of each unique'
            )
        kept.append((with_objects or same)[0])
    dropped = len(categories) - len(kept)
    if dropped:
        found.mended['unused categories with the name of another one'] = dropped
        found.unlike.append('two of its categories have one name')
    ids = _ids(found, kept, 'categories', 'category')
    found.categories = [
        dict(id=new, name=each['name'])
        for each, new in zip(kept, ids.values(), strict=True)
    ]
    found.categories.sort(key=lambda each: each['id'])
    return ids


def _ids(
    found: CocoFile, items: list[dict[str, Any]], kind: str, one: str
) -> dict[Any, int]:
    """Return the new id of each item by its old one, in the items' order."""
    keys = [id_key(item.get('id')) for item in items]
    for key, item in zip(keys, items, strict=True):
        if key is None:
            raise ValueError(
                f"one of the {kind} in '{found.path}' has the id {item.get('id')!r:.50}"
                ': give each a number or text'
            )
    if len(set(keys)) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(
            f"two of the {kind} in '{found.path}' have the id {twice!r:.50}: make the "
            'ids unique'
        )
    raw = [item['id'] for item in items]
    if are_ids(raw):
        return dict(zip(keys, keys, strict=True))
    found.mended[f'{one} ids'] = len(items)
    if are_ids(keys):
        new = dict(zip(keys, keys, strict=True))
    else:
        new = {key: place for place, key in enumerate(keys, 1)}
    found.unlike.append(f'its {one} ids are no whole numbers below 2^53')
    return new


def _belongs(
    found: CocoFile,
    raw: dict[str, Any],
    image_ids: Mapping[Any, int],
    category_ids: Mapping[Any, int],
) -> tuple[int, int]:
    """Return the new ids of an annotation's image and category."""
    new = []
    for field_, ids in (('image_id', image_ids), ('category_id', category_ids)):
        key = id_key(raw.get(field_))
        if key not in ids:
            what = (
                f'no {field_}'
                if raw.get(field_) is None
                else f'the {field_} {raw[field_]!r:.50}, but the file lacks it'
            )
            raise ValueError(
                f"annotation {raw.get('id')!r:.50} in '{found.path}' has {what}: "
                'correct the file'
            )
        new.append(ids[key])
    return new[0], new[1]


def _read_annotation(
    found: CocoFile, raw: dict[str, Any], image: dict[str, Any], category: int
) -> None:
    """Add an annotation, or note why it is left out."""
    named = f'{raw.get("id")!r:.50} of {image["file_name"]}'
    size = image['height'], image['width']
    mask = raw.get('segmentation')
    if not mask or mask == [[]]:
        found.without_mask.append(named)
        return
    stated = mask
    mask, why, parts = read_mask(stated, *size)
    if isinstance(mask, list) and mask != stated:
        _note_unlike(found, 'a mask is no list of polygons of 3 points and more')
    if isinstance(mask, dict) and any(type(side) is not int for side in stated['size']):
        _note_unlike(found, "a mask's size is no whole number")
    if parts:
        found.bad_parts.append(f'{named} {parts}')
    if why:
        found.bad.append(f'{named} {why}')
        return
    rle, of_polygons = mask, []
    if isinstance(mask, list):
        polygons = mask_utils.frPyObjects(mask, *size)
        rle = mask_utils.merge(polygons)
        of_polygons = mask_utils.area(polygons).tolist()
    area = int(mask_utils.area(rle))
    if not area:
        found.bad.append(f'{named} has no pixel in the image')
        return
    box = [float(side) for side in mask_utils.toBbox(rle)]
    if has_hole(raw.get('area'), area, of_polygons):
        found.filled.append(named)
    differs = box_differs(raw.get('bbox'), box)
    if has_pixels(raw.get('bbox')):
        found.boxes += 1
        if differs and box_elsewhere(raw['bbox'], box):
            found.elsewhere.append(named)
    crowd = is_true(raw.get('iscrowd')) or is_true(raw.get('ignore'))
    found.mended['boxes unlike their masks'] += differs
    found.mended['areas unlike their masks'] += area_differs(raw.get('area'), area)
    if raw.get('ignore'):
        _note_unlike(found, 'it has regions to ignore that are no crowds')
    if type(raw.get('iscrowd')) is not int or raw['iscrowd'] not in (0, 1):
        found.mended['iscrowd'] += 1
        _note_unlike(found, 'its iscrowd is not always 0 or 1')
    if type(raw.get('area')) not in (int, float) or not is_box(raw.get('bbox')):
        _note_unlike(found, 'an area or a box is missing')
    each = dict(
        id=len(found.annotations) + 1,
        image_id=image['id'],
        category_id=category,
        bbox=box,
        area=area,
        iscrowd=int(crowd),
        segmentation=mask,
    )
    each |= {key: raw[key] for key in ('score', *PARTS) if key in raw}
    if 'score' in raw and is_box(raw.get('bbox')):
        each['predicted_bbox'] = raw['bbox']
    found.annotations.append(each)


def _note_unlike(found: CocoFile, why: str) -> None:
    if why not in found.unlike:
        found.unlike.append(why)


def missing_annotations(path: str | os.PathLike[str]) -> str:
    """Return the error message for a missing annotation file, with the remedy."""
    path = Path(path)
    if path.name.startswith('instancesonly_filtered_gtFine_'):
        root = path.parent.parent
        remedy = f"make it with '{tool('dataset_converters/cityscapes.py')} {root}'"
    elif path.name.startswith('ade20k_instance_'):
        remedy = (
            f"make it with 'mim run mmdet ade20k2coco {path.parent} --task instance'"
        )
    else:
        remedy = 'give the path of your COCO JSON (docs/own_data.md)'
    return (
        f"annotation file '{path}' does not exist (looked in '{os.getcwd()}'): {remedy}"
    )
