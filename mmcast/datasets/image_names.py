"""Names of images that come from data: check them before they become paths.

A name is an image's path below the image folder, with ``/`` between folders. Lists,
COCO files, stores and folders all give names, and all go through `check_name`.

Links: the image folder itself may be a link, and so may every folder above it, as in
``data/cityscapes/leftImg8bit -> /mnt/cityscapes/leftImg8bit``. Below the image folder
a link may lead only to a place below the image folder. `find_missing` and
`find_images` follow this rule.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')

# A file system allows 255 bytes; a store's temporary file needs up to 15 more.
_LONGEST_PART = 240
_LONGEST = 2000
_CHARACTERS = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\\\]')
_BLANK_EDGE = re.compile(r'^\s|\s\Z')
_NO_PART = re.compile(r'(?:^|/)\.{0,2}(?:/|\Z)')
_ANY = re.compile('|'.join(p.pattern for p in (_CHARACTERS, _BLANK_EDGE, _NO_PART)))


def check_name(name: Any, place: str | os.PathLike[str]) -> str:
    """Return a name that is safe to join to the image folder and to write to a list.

    Args:
        name: What the data has as the image's name.
        place: Where it was found, for the message: a file, maybe with the line.

    Raises:
        ValueError: If the name is not text, is absolute, has a ``.``, ``..`` or empty
            part, a backslash, a line break or another control character, a blank at an
            edge, or is too long.
    """
    if not isinstance(name, str):
        raise ValueError(f'{place}: the image name {name!r:.100} is not text: make it')
    # Short names cannot be too long in bytes; most of a million names end here.
    if len(name) <= _LONGEST_PART // 4 and not _ANY.search(name):
        return name
    if _CHARACTERS.search(name):
        why = (
            'has a line break, another control character, a backslash or a byte that '
            'is not UTF-8: rename the image, with `/` between folders'
        )
    elif _NO_PART.search(name):
        why = (
            'is not below the image folder: give the path relative to the image root '
            "(data_prefix['img']), with `/` and without `.` or `..`"
        )
    elif _BLANK_EDGE.search(name):
        why = 'begins or ends with a blank: remove it, or rename the image'
    elif (
        len(name.encode()) > _LONGEST
        or max(len(part.encode()) for part in name.split('/')) > _LONGEST_PART
    ):
        why = f'has a part of over {_LONGEST_PART} bytes: rename the image'
    else:
        return name
    raise ValueError(f'{place}: {name[:100]!r} {why}')


def find_missing(names: Sequence[str], folder: str | os.PathLike[str]) -> list[int]:
    """Return the places of the names that no file in a folder has.

    Lists each subfolder once and resolves only links and subfolders, since a call to
    the system for each of a million names takes too long.

    Args:
        names: Names that `check_name` has returned.
        folder: The image folder.

    Raises:
        ValueError: If a name leads out of the folder by a link.
    """
    root = os.path.realpath(folder)
    places_of: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places_of.setdefault(name.rpartition('/')[0], []).append(place)
    missing = []
    for parent, places in places_of.items():
        if parent:
            _check_inside(root, parent, folder)
        files, links = _list(os.path.join(root, parent))
        for place in places:
            file = names[place].rpartition('/')[2]
            if file not in files:
                missing.append(place)
            elif file in links:
                _check_inside(root, names[place], folder)
    return sorted(missing)


def find_images(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of all images below a folder, sorted; hidden ones are left out.

    A linked subfolder is not entered: what it leads to is in the folder already.

    Raises:
        ValueError: If a name is refused by `check_name`, or a link leads out of the
            folder.
    """
    root = os.path.realpath(folder)
    names = []
    below = ['']
    while below:
        parent = below.pop()
        with os.scandir(os.path.join(root, parent)) as entries:
            for entry in entries:
                name = parent + entry.name
                if entry.is_dir(follow_symlinks=False):
                    below.append(f'{name}/')
                    continue
                is_image = entry.name.lower().endswith(IMAGE_SUFFIXES)
                is_image &= not entry.name.startswith('.')
                if entry.is_symlink():
                    to_folder = os.path.isdir(entry.path)
                    if is_image or to_folder:
                        _check_inside(root, name, folder)
                    is_image &= not to_folder
                if is_image:
                    names.append(check_name(name, folder))
    return sorted(names)


def _list(folder: str) -> tuple[set[str], set[str]]:
    """Return the names of a folder's files, and of those among them that are links."""
    files, links = set(), set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_link = entry.is_symlink()
                # `entry.is_file` raises if links form a ring.
                is_file = os.path.isfile(entry.path) if is_link else entry.is_file()
                if is_file:
                    files.add(entry.name)
                if is_link:
                    links.add(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return files, links


def _check_inside(root: str, name: str, folder: str | os.PathLike[str]) -> None:
    real = os.path.realpath(os.path.join(root, name))
    if real != root and not real.startswith(os.path.join(root, '')):
        raise ValueError(
            f'{folder}: {name!r} leads out of the image folder, to {real!r}: put the '
            "images there instead of a link, or correct data_prefix=dict(img='...'), "
            'which may itself be a link'
        )
