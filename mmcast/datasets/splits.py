"""Lists of images: draw a labelled/unlabelled split, read it, write it.

A list is a text file with one image per line: its path relative to the image folder
(for a COCO file: its ``file_name``), with ``/`` between folders. A second format is
that of Guided Distillation's lists (``data_splits/cityscapes/perc_10.txt``). These name
a Cityscapes image by its annotation, ``{city}_..._gtFine_instanceIds.png`` without the
city's folder. Both formats can be read and written. Line *n* of a list is entry *n - 1*
of `read_list`'s result, so every error can name the line.
"""

import os
import posixpath
import random
from collections.abc import Collection, Iterator, Mapping, Sequence

from .image_names import check_name

INSTANCE_IDS = '_gtFine_instanceIds.png'
LEFT_IMAGE = '_leftImg8bit.png'


def to_image_name(line: str) -> str:
    """Turn a line of either list format into an image name.

    >>> to_image_name('ulm_000075_000019_gtFine_instanceIds.png')
    'ulm/ulm_000075_000019_leftImg8bit.png'
    >>> to_image_name('./a//b.jpg')
    'a/b.jpg'
    """
    if line.endswith(INSTANCE_IDS):
        stem = posixpath.basename(line)[: -len(INSTANCE_IDS)]
        return f'{stem.split("_", 1)[0]}/{stem}{LEFT_IMAGE}'
    # Not `normpath`: it hides that `a/../b.jpg` may lead anywhere if `a` is a link.
    parts = [part for part in line.split('/') if part not in ('', '.')]
    return '/' * line.startswith('/') + '/'.join(parts)


def to_instance_ids(name: str) -> str:
    """Turn the name of a Cityscapes image into a line of Guided Distillation's lists.

    >>> to_instance_ids('ulm/ulm_000075_000019_leftImg8bit.png')
    'ulm_000075_000019_gtFine_instanceIds.png'
    """
    line = posixpath.basename(name)[: -len(LEFT_IMAGE)] + INSTANCE_IDS
    if not name.endswith(LEFT_IMAGE) or to_image_name(line) != name:
        raise ValueError(
            f"'{name}' is not named {{city}}/{{city}}_*{LEFT_IMAGE}, so it cannot be "
            'written as instance-ids: use the format names'
        )
    return line


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Read a list of images in either format.

    Args:
        path: The text file.

    Returns:
        Image names in the file's order; entry ``i`` is line ``i + 1``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the list is empty or not text, or a line is blank, a duplicate or
            no name for `check_name`; the message names the line.
    """
    names: list[str] = []
    seen: set[str] = set()
    blank = 0
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            blank = blank or number
            continue
        if blank:
            raise ValueError(f'{path}:{blank}: the line is blank: remove it')
        name = check_name(to_image_name(line), f'{path}:{number}')
        if name in seen:
            raise ValueError(
                f"{path}:{number}: '{name}' is on line {names.index(name) + 1} "
                'already: remove one of the two'
            )
        seen.add(name)
        names.append(name)
    if not names:
        raise ValueError(
            f"image list '{path}' is empty: write one image per line into it, or draw "
            f'it with mmcast split'
        )
    return names


def _lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the lines of a list; a list of a million names is not held as text."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            for line in file:
                yield line.removesuffix('\n')
    except FileNotFoundError:
        raise FileNotFoundError(
            f"image list '{path}' does not exist (looked in '{os.getcwd()}'): draw one "
            f'with mmcast split, or correct the path'
        ) from None
    except IsADirectoryError:
        raise ValueError(
            f"image list '{path}' is a folder: give a file with one image per line"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(
            f"image list '{path}' is not a text file: give a list with one image per "
            'line'
        ) from None


def format_list(names: Sequence[str], list_format: str = 'names') -> str:
    """Return the text of a list.

    Args:
        names: Image names.
        list_format: ``'names'`` (one image name per line) or ``'instance-ids'`` (the
            lists of Guided Distillation).

    Raises:
        ValueError: If `read_list` would refuse a name or read another one, or an image
            is not named as in Cityscapes, for ``'instance-ids'``.
    """
    for name in names:
        read_as = to_image_name(check_name(name, 'image list'))
        if read_as != name:
            raise ValueError(
                f"image list: '{name}' would be read as '{read_as}': rename the image"
            )
    if list_format == 'instance-ids':
        names = [to_instance_ids(name) for name in names]
    return ''.join(f'{name}\n' for name in names)


def check_known(
    names: Sequence[str], known: Collection[str], path: str | os.PathLike[str]
) -> None:
    """Raise a ValueError with file and line for the first name not among `known`."""
    for number, name in enumerate(names, 1):
        if name not in known:
            example = next(iter(known), None)
            raise ValueError(
                f"{path}:{number}: '{name}' is not an image of this data set (its "
                f"images are named like '{example}'): correct or remove the line"
            )


def check_lists(
    labeled: Sequence[str],
    unlabeled: Sequence[str],
    known: Collection[str],
    paths: tuple[str, str] = ('labeled.txt', 'unlabeled.txt'),
) -> None:
    """Check that two lists make a split.

    Args:
        labeled: Names as `read_list` returns them.
        unlabeled: The same for the unlabelled images.
        known: Names of all images of the data set; a set.
        paths: The files of the two lists, for the messages.

    Raises:
        ValueError: If a list is empty or names an unknown image, or an image is on both
            lists. The message names file and line.
    """
    for names, path in zip((labeled, unlabeled), paths, strict=True):
        if not names:
            raise ValueError(f'{path} is empty: a split needs images on both lists')
        check_known(names, known, path)
    line_of = {name: number for number, name in enumerate(labeled, 1)}
    for number, name in enumerate(unlabeled, 1):
        if name in line_of:
            raise ValueError(
                f"{paths[1]}:{number}: '{name}' is labelled already ({paths[0]}:"
                f'{line_of[name]}): remove it from one list, or derive the unlabelled '
                'list with mmcast split --labeled'
            )


def draw_order(
    names: Sequence[str],
    seed: int | str,
    per_class: int = 0,
    classes_of: Mapping[str, Collection[str]] | None = None,
) -> tuple[list[str], int]:
    """Put images into a random order; its first images make a labelled set.

    Any prefix of at least the returned length is a labelled set, and prefixes of one
    order are nested. With `per_class`, the order starts with images that give every
    class at least that many images, or all that it has. They are found greedily, from
    the rarest class to the commonest; the rest follows uniformly.

    Args:
        names: Images; their order does not matter.
        seed: Same seed, same order, on every machine.
        per_class: Images wanted for each class; 0 for a uniform draw.
        classes_of: Image name to the classes it shows; needed for `per_class`.

    Returns:
        All names in the drawn order, and the shortest allowed length of a prefix.
    """
    order = sorted(names)
    random.Random(seed).shuffle(order)
    if not per_class:
        return order, 1
    assert classes_of is not None
    images_of: dict[str, list[str]] = {}
    for name in order:
        for class_name in classes_of.get(name, ()):
            images_of.setdefault(class_name, []).append(name)
    chosen: dict[str, None] = {}
    for class_name in sorted(images_of, key=lambda c: (len(images_of[c]), c)):
        images = images_of[class_name]
        have = sum(name in chosen for name in images)
        missing = [name for name in images if name not in chosen]
        chosen.update(dict.fromkeys(missing[: max(per_class - have, 0)]))
    return [*chosen, *(name for name in order if name not in chosen)], len(chosen)
