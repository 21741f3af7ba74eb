"""Look at a COCO file and its images before anybody trains on them.

`load_coco` stops at the first thing that makes a file unreadable. What is here goes on
and counts: each `Finding` is one line of a table.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from .coco_masks import why_bad_mask
from .image_names import find_images, find_missing
from .mirrored import mirror_pairs, sided_classes
from .overlap import examples
from .splits import coco_image_classes
from .transforms.images import bits_per_channel

# So many predictions of an image count for COCO's AP, the best ones.
AP_CAP = 100
# Only these have more than 8 bits a channel.
_DEEP_SUFFIXES = ('.png', '.tif', '.tiff')


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: What was counted.
        count: How often it was found, with examples if it is a problem.
        remedy: What is done about it, or what the user has to do; '' if all is well.
        stops: Whether nobody can train before it is repaired.
    """

    what: str
    count: str
    remedy: str = ''
    stops: bool = False


@dataclass
class Inspection:
    """What a COCO file and its folder of images hold.

    Attributes:
        findings: The table.
        classes: Classes with an instance, in the file's order.
        annotated: Names of the images with an object, to the classes they show.
        others: Names of all other images of the folder, without further copies.
        sizes: (width, height) in pixels to number of images.
        most: Objects of the fullest image; crowds do not count.
        mirrored: Pairs of classes named left and right that a flip swaps; None if such
            a class lacks its partner.
    """

    findings: list[Finding] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    annotated: dict[str, set[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    most: int = 0
    mirrored: list[tuple[str, str]] | None = field(default_factory=list)

    def note(
        self, what: str, found: list[str] | int, remedy: str = '', stops: bool = False
    ) -> None:
        """Add a line; the remedy counts only if there is something."""
        count = found if isinstance(found, int) else len(found)
        text = f'{count:,}'
        if count and remedy and not isinstance(found, int):
            text += f': {examples(found)}'
        self.findings.append(
            Finding(what, text, remedy if count else '', stops and count > 0)
        )


@dataclass(frozen=True)
class _File:
    """What the header of an image file says; sizes are (width, height)."""

    stored: tuple[int, int] = (0, 0)
    shown: tuple[int, int] = (0, 0)
    gray: bool = False
    bits: int = 8
    turned: bool = False
    error: str = ''


def inspect(
    coco: Mapping[str, Any],
    folder: Path,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Look at the annotations, and at the header of each image.

    Args:
        coco: What `mmcast.datasets.splits.load_coco` returned.
        folder: The image folder; ``file_name`` is a path below it.
        on_image: Called after each image with the number of images done, and of all.

    Raises:
        ValueError: A name is invalid, or a link leads out of the folder.
    """
    found = Inspection()
    images = {image['file_name']: image for image in coco['images']}
    names = list(images)
    missing = {names[index] for index in find_missing(names, folder)}
    extra = [name for name in find_images(folder) if name not in images]
    present = [name for name in names if name not in missing]
    found.note('images in the JSON', len(names))
    found.note('images in the folder that the JSON lacks', len(extra))
    found.note(
        'images that are missing',
        sorted(missing),
        "put them there, or correct --images: 'file_name' is the path below it",
        stops=True,
    )
    files = _read_files([*present, *extra], folder, on_image)
    _note_files(found, files, images)
    _note_annotations(found, coco, images)
    bad = {name for name, file in files.items() if file.error}
    every_class, classes_of = coco_image_classes(coco)
    order = sorted(files, key=lambda name: (not classes_of.get(name), name))
    copies = {order[index] for index in find_copies([folder / n for n in order])}
    found.note(
        'images with the content of another one',
        sorted(copies),
        'they are left out of the lists',
    )
    count = Counter(name for shown in classes_of.values() for name in shown)
    found.classes = tuple(name for name in every_class if count[name])
    found.findings.append(
        Finding('images with', ', '.join(f'{n}: {count[n]:,}' for n in found.classes))
    )
    found.note(
        'classes without an instance',
        [name for name in every_class if not count[name]],
        'they are left out',
    )
    _note_sides(found)
    usable = [name for name in files if name not in copies and name not in bad]
    found.annotated = {n: classes_of[n] for n in usable if classes_of.get(n)}
    empty = [n for n in usable if n in images and not classes_of[n]]
    found.note(
        'images of the JSON without an object', empty, 'they count as unlabelled'
    )
    found.others = [name for name in usable if name not in found.annotated]
    found.sizes.update(files[name].shown for name in usable)
    return found


def _read_files(
    names: list[str], folder: Path, on_image: Callable[[int, int], None]
) -> dict[str, _File]:
    files = {}
    with ThreadPoolExecutor(8) as pool:
        paths = (folder / name for name in names)
        for name, file in zip(names, pool.map(_read_file, paths), strict=True):
            files[name] = file
            on_image(len(files), len(names))
    return files


def _read_file(path: Path) -> _File:
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            mode, size = image.mode, image.size
        bits = 8
        if path.suffix.lower() in _DEEP_SUFFIXES:
            bits = bits_per_channel(path.read_bytes())
        shown = size[::-1] if orientation in (5, 6, 7, 8) else size
        gray = mode in ('1', 'L', 'LA') or mode.startswith('I')
        return _File(size, shown, gray, bits, orientation in range(2, 9))
    except (OSError, ValueError, SyntaxError) as error:
        return _File(error=str(error) or type(error).__name__)


def _note_files(
    found: Inspection, files: dict[str, _File], images: Mapping[str, Any]
) -> None:
    def those(wanted: Callable[[str, _File], bool]) -> list[str]:
        good = (item for item in files.items() if not item[1].error)
        return [name for name, file in good if wanted(name, file)]

    def declared(name: str) -> tuple[int, int] | None:
        image = images.get(name)
        return image and (image['width'], image['height'])

    found.note(
        'images that cannot be read',
        [name for name, file in files.items() if file.error],
        'repair or remove them',
        stops=True,
    )
    unturned = those(lambda name, file: declared(name) == file.stored != file.shown)
    found.note(
        'images that EXIF turns',
        len(those(lambda _, file: file.turned)),
        'loading turns them, so masks must fit the turned images',
    )
    found.note(
        'of these with the size from before the turn in the JSON',
        unturned,
        'save them without EXIF (mogrify -strip), or annotate them again',
        stops=True,
    )
    differ = those(lambda name, file: declared(name) not in (None, file.shown))
    found.note(
        'images of another size than the JSON says',
        [
            '{} is {}x{}, not {}x{}'.format(name, *files[name].shown, *size)
            for name in differ
            if name not in unturned and (size := declared(name))
        ],
        'correct width and height of the JSON, or take the images it was made for',
        stops=True,
    )
    found.note(
        'images with over 8 bits a channel',
        those(lambda _, file: file.bits > 8),
        'loading would keep the upper 8: convert them to 8 bits',
        stops=True,
    )
    found.note('grayscale images', len(those(lambda _, file: file.gray)))


def _note_sides(found: Inspection) -> None:
    """Note classes that a flip would turn into each other."""
    found.mirrored = mirror_pairs(found.classes)
    if found.mirrored is None:
        remedy = 'images are not flipped: a flip would swap left and right'
    else:
        pairs = ', '.join(f'{a} and {b}' for a, b in found.mirrored)
        remedy = f'a flip of the image swaps the labels of {pairs}'
    found.note('classes named left or right', sided_classes(found.classes), remedy)


def _note_annotations(
    found: Inspection, coco: Mapping[str, Any], images: Mapping[str, Any]
) -> None:
    by_id = {image['id']: image for image in images.values()}
    kinds: Counter[str] = Counter()
    bad, repeated, seen = [], 0, set()
    objects: Counter[str] = Counter()
    for each in coco.get('annotations', []):
        mask, image = each['segmentation'], by_id[each['image_id']]
        kinds['objects'] += 1
        if each['iscrowd']:
            kinds['crowds'] += 1
        if not mask:
            kinds['none'] += 1
            continue
        objects[image['file_name']] += not each['iscrowd']
        kinds['polygons' if isinstance(mask, list) else 'RLE'] += 1
        why = why_bad_mask(mask, image['height'], image['width'])
        if why:
            bad.append(f'annotation {each["id"]} {why}')
            continue
        text = json.dumps(mask, sort_keys=True, default=str)
        key = (
            each['image_id'],
            each['category_id'],
            hashlib.sha256(text.encode()).digest(),
        )
        repeated += key in seen
        seen.add(key)
    found.note('objects', kinds['objects'])
    name, found.most = max(objects.items(), key=lambda item: item[1], default=('', 0))
    found.findings.append(
        Finding(
            'objects of the fullest image',
            f'{found.most:,}' + f': {name}' * bool(name),
            f'AP counts the {AP_CAP} best predictions of an image, AP50 1,000'
            if found.most > AP_CAP
            else '',
        )
    )
    found.note('masks as polygons', kinds['polygons'])
    found.note('masks as RLE', kinds['RLE'])
    found.note('crowds', kinds['crowds'], 'not learnt; in evaluation they are ignored')
    found.note('objects without a mask', kinds['none'], 'they are left out')
    found.note('masks that cannot be read', bad, 'correct or remove them', stops=True)
    found.note(
        'objects annotated twice', repeated, 'remove one: each is learnt and evaluated'
    )


def find_copies(paths: Sequence[Path]) -> set[int]:
    """Return the places of files that have the content of an earlier one.

    Only files of one length are read.

    Args:
        paths: The files; missing ones count as different from all.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, path in enumerate(paths):
        if path.is_file():
            by_length[path.stat().st_size].append(place)
    copies, seen = set(), set()
    for places in by_length.values():
        for place in places if len(places) > 1 else ():
            digest = hashlib.sha256(paths[place].read_bytes()).digest()
            if digest in seen:
                copies.add(place)
            seen.add(digest)
    return copies
