"""Look at a COCO file and its images before anybody trains on them.

`read_coco` checks the annotations. What is here looks at the images, too, and counts:
each `Finding` is one line of a table.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmcast.datasets.coco_file import FITTED, CocoFile
from mmcast.datasets.image_names import examples, find_missing, find_renamed, scan
from mmcast.datasets.mirrored import mirror_pairs, sided_classes
from mmcast.datasets.pseudo_label_store import find_shared

from .image_files import (
    MOST_MEGAPIXELS,
    MOST_TIMES_AS_LONG,
    TOO_LARGE,
    ImageFile,
    find_copies,
    read_files,
)

# So many predictions of a class in an image count for COCO's AP, the best ones.
AP_CAP = 100
# What becomes of what `read_coco` corrects.
_MENDED = {
    'annotation ids': 'they are numbered from 1',
    'image ids': 'they are made whole numbers',
    'category ids': 'they are made whole numbers',
    'iscrowd': 'it is made 0 or 1',
    'boxes unlike their masks': 'boxes are taken from the masks',
    'areas unlike their masks': 'areas are taken from the masks',
    FITTED: 'these folders are removed',
    'names with backslashes or ./': 'they are written with /',
    'unused categories with the name of another one': 'they are left out',
}


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
        classes: Classes with an instance, sorted by their ids.
        annotated: Names of the images with an object, to the classes they show.
        others: Names of all other images of the folder, without further copies.
        readable: Names of the JSON's images that can be used, copies too.
        sizes: (width, height) in pixels to number of images.
        most: Objects of the fullest image; crowds do not count.
        mirrored: Pairs of classes named left and right that a flip swaps; None if such
            a class lacks its partner.
    """

    findings: list[Finding] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    annotated: dict[str, set[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)
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


def inspect(
    coco: CocoFile,
    folder: Path,
    link_root: Path | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    whole: bool = True,
) -> Inspection:
    """Look at the annotations, and read each image.

    Args:
        coco: The annotations, read with this folder.
        folder: The image folder; ``file_name`` is a path below it.
        link_root: Links in the folder may lead to places below it, too.
        on_image: Called after each image with the number of images done, and of all.
        whole: Whether images that the file lacks count, too.

    Raises:
        ValueError: A name is invalid, or a link leads out of the folder.
    """
    found = Inspection()
    images = {image['file_name']: image for image in coco.images}
    names = list(images)
    missing = {names[index] for index in find_missing(names, folder, link_root)}
    held = scan(folder, link_root)
    extra = [name for name in held.images if name not in images]
    present = [name for name in names if name not in missing]
    found.note('images in the JSON', len(names))
    folders = Counter(name.rpartition('/')[0] or '.' for name in extra)
    found.findings.append(
        Finding(
            'images in the folder that the JSON lacks',
            f'{len(extra):,}'
            + f': {examples([f"{c:,} in {n}" for n, c in folders.most_common()])}'
            * bool(folders.keys() - {'.'}),
        )
    )
    found.note(
        'images of a kind that cannot be read',
        held.undecodable,
        'they are left out: convert them to JPEG or PNG',
    )
    found.note(
        'folders of other programs, and hidden ones',
        held.foreign,
        'images in them are left out',
    )
    renamed = find_renamed(sorted(missing), extra) if missing else {}
    found.note(
        'images that are missing',
        [
            *(f'{name}, but {there} is there' for name, there in renamed.items()),
            *sorted(missing - {*renamed}),
        ],
        "put them there, or correct --images: 'file_name' is the path below it"
        + f'. {len(renamed)} are there by another name: rename them, or correct '
        "'file_name'" * bool(renamed),
        stops=True,
    )
    files = read_files([*present, *(extra if whole else ())], folder, on_image)
    _note_files(found, files, images)
    _note_annotations(found, coco)
    bad = {name for name, file in files.items() if file.error or file.is_strip}
    classes_of = coco.classes_of()
    order = sorted(files, key=lambda name: (not classes_of.get(name), name))
    copies = {order[index] for index in find_copies([folder / n for n in order])}
    found.note(
        'images with the content of another one',
        sorted(copies),
        'they are left out of the lists',
    )
    shared = sorted(find_shared(name for name in order if name not in copies))
    found.note(
        'images named as another one, but for the suffix',
        shared,
        'they are left out of the lists: labels of both would be one file. Rename them',
    )
    left_out = {*copies, *shared, *bad}
    found.note(
        'objects of images that are left out of the lists',
        sum(len(every) for name, every in coco.by_image().items() if name in left_out),
        'they are not learnt: of copies, annotate one',
    )
    usable = [name for name in files if name not in left_out]
    count = Counter(name for n in usable for name in classes_of.get(n, ()))
    found.classes = coco.shown_classes
    found.findings.append(
        Finding('images with', ', '.join(f'{n}: {count[n]:,}' for n in found.classes))
    )
    found.note(
        'classes without an instance',
        [name for name in coco.classes if name not in found.classes],
        'they are left out',
    )
    _note_sides(found)
    found.readable = [name for name in present if name not in bad]
    found.annotated = {n: classes_of[n] for n in usable if classes_of.get(n)}
    empty = [n for n in usable if n in images and not classes_of[n]]
    found.note(
        'images of the JSON without an object', empty, 'they count as unlabelled'
    )
    found.others = [name for name in usable if name not in found.annotated]
    found.sizes.update(files[name].shown for name in usable)
    return found


def _note_files(
    found: Inspection, files: dict[str, ImageFile], images: Mapping[str, Any]
) -> None:
    def those(wanted: Callable[[str, ImageFile], bool]) -> list[str]:
        good = (item for item in files.items() if not item[1].error)
        return [name for name, file in good if wanted(name, file)]

    def declared(name: str) -> tuple[int, int] | None:
        image = images.get(name)
        return image and (image['width'], image['height'])

    large = [name for name, file in files.items() if file.error == TOO_LARGE]
    found.note(
        'images that cannot be read',
        [n for n, file in files.items() if file.error and file.error != TOO_LARGE],
        'they are left out: repair them, or get them again',
        stops=bool(files) and all(file.error for file in files.values()),
    )
    found.note(
        f'images of over {MOST_MEGAPIXELS} megapixels',
        large,
        'they are left out: cut them into tiles, or make them smaller',
    )
    found.note(
        f'images over {MOST_TIMES_AS_LONG} times as long as wide',
        those(lambda _, file: file.is_strip),
        'they are left out: cut them into pieces',
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
        'if their masks fit the photo as a viewer shows it, swap width and height in '
        'the JSON; if they fit the unturned photo, save it without EXIF (mogrify '
        '-strip)',
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
        'take the images that the JSON was made for; correct its width and height '
        'only if the masks fit these images',
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


def _note_annotations(found: Inspection, coco: CocoFile) -> None:
    left = len(coco.annotations)
    objects = Counter(e['image_id'] for e in coco.annotations if not e['iscrowd'])
    crowds = left - objects.total()
    found.note('objects', coco.total)
    place, found.most = max(objects.items(), key=lambda item: item[1], default=(0, 0))
    name = {image['id']: image['file_name'] for image in coco.images}.get(place, '')
    of_a_class = Counter(
        (e['image_id'], e['category_id']) for e in coco.annotations if not e['iscrowd']
    )
    found.findings.append(
        Finding(
            'objects of the fullest image',
            f'{found.most:,}' + f': {name}' * bool(name),
            f'AP counts the {AP_CAP} best predictions of a class in an image, AP50 '
            '1,000'
            if max(of_a_class.values(), default=0) > AP_CAP
            else '',
        )
    )
    polygons = sum(isinstance(e['segmentation'], list) for e in coco.annotations)
    found.note('masks as polygons', polygons)
    found.note('masks as RLE', left - polygons)
    found.note(
        'objects without a mask',
        coco.without_mask,
        'they are left out: only objects with a mask are learnt and evaluated',
        stops=not left and not coco.bad,
    )
    found.note(
        'masks that cannot be read',
        coco.bad,
        'these objects are left out: correct or remove them',
        stops=not left,
    )
    found.note(
        'masks that lose a polygon, which cannot be read',
        coco.bad_parts,
        'the other polygons of these masks are used',
    )
    found.note(
        'holes that are filled',
        coco.filled,
        "a polygon in another one of its mask is no hole in COCO's format: write these "
        'masks as RLE',
    )
    found.note(
        'boxes elsewhere than their masks',
        coco.elsewhere,
        'masks or boxes have other units, another order of x and y, or are those of '
        "images of another size: look at some. If the masks are right, remove 'bbox'",
        stops=2 * len(coco.elsewhere) > coco.boxes,
    )
    rectangles = [
        each
        for each in coco.annotations
        if each['area'] == each['bbox'][2] * each['bbox'][3]
    ]
    if 2 * len(rectangles) > left:
        found.note(
            'masks that are rectangles, most of the objects',
            len(rectangles),
            'boxes are learnt as masks then: annotate outlines, unless the objects are '
            'rectangles',
        )
    if 4 * crowds > objects.total():
        most = crowds > objects.total()
        what = 'crowds, most of the objects' if most else 'crowds'
        found.note(
            what if objects else 'crowds, and no other object',
            crowds,
            "nothing is learnt from crowds. CVAT writes masks as crowds: set 'iscrowd' "
            'to 0 in the JSON, or convert the masks to polygons in CVAT',
            stops=most,
        )
    else:
        found.note('crowds', crowds, 'not learnt; in evaluation they are ignored')
    for what, count in coco.mended.items():
        if count:
            found.note(what, count, _MENDED[what])
    found.note(
        'objects annotated twice, or for two classes',
        _repeated(coco),
        'remove one: each is learnt and evaluated',
    )


def _repeated(coco: CocoFile) -> int:
    """Count the objects with image and mask of an earlier one."""
    seen = set()
    for each in coco.annotations:
        text = json.dumps(each['segmentation'], sort_keys=True)
        digest = hashlib.sha256(text.encode()).digest()
        seen.add((each['image_id'], digest))
    return len(coco.annotations) - len(seen)
