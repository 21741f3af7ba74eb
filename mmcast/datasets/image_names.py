"""Names of images that come from data: check them before they become paths.

A name is an image's path below the image folder, with ``/`` between folders. Lists,
COCO files, stores and folders all give names, and all go through `check_name`.

Links: the image folder itself may be a link, and so may every folder above it, as in
``data/cityscapes/leftImg8bit -> /mnt/cityscapes/leftImg8bit``. Below the image folder
a link may lead only to a place below the image folder, or below ``link_root`` if that
is given, as the cache of DVC or of a hub. `find_missing` and `scan` follow this rule.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

# What OpenCV decodes.
IMAGE_SUFFIXES = (
    *('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.bmp', '.tif', '.tiff', '.webp'),
    *('.gif', '.jp2', '.avif'),
)
# Images that nothing here decodes.
OTHER_IMAGES = (
    *('.heic', '.heif', '.jxl', '.svg', '.psd', '.dng', '.nef', '.cr2', '.cr3', '.arw'),
    *('.raf', '.rw2', '.orf', '.exr', '.hdr', '.dcm', '.svs', '.ndpi', '.pdf'),
)
# Folders that other programs leave, with copies and thumbnails of the images.
_FOREIGN_FOLDERS = (
    *('@eadir', '@recycle', '#recycle', '#snapshot', '__macosx', '$recycle.bin'),
    'lost+found',
)

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
            'is not below the image folder: give its path from there, with `/` and '
            'without `.` or `..`'
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


def is_image(name: str) -> bool:
    """Say whether a name is an image's that `find_images` would find.

    It has an image's suffix, and neither it nor a folder of it is hidden or foreign.
    """
    *folders, file = name.lower().split('/')
    hidden = (
        part.startswith('.') and part not in ('.', '..') for part in (*folders, file)
    )
    foreign = any(folder in _FOREIGN_FOLDERS for folder in folders)
    return file.endswith(IMAGE_SUFFIXES) and not foreign and not any(hidden)


def find_missing(
    names: Sequence[str],
    folder: str | os.PathLike[str],
    link_root: str | os.PathLike[str] | None = None,
) -> list[int]:
    """Return the places of the names that no file in a folder has.

    Lists each subfolder once and resolves only links and subfolders, since a call to
    the system for each of a million names takes too long.

    Args:
        names: Names that `check_name` has returned.
        folder: The image folder.
        link_root: Links may lead to places below it, too.

    Raises:
        ValueError: If a name leads out of the folder by a link.
    """
    roots = _roots(folder, link_root)
    places_of: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places_of.setdefault(name.rpartition('/')[0], []).append(place)
    missing = []
    for parent, places in places_of.items():
        if parent:
            _check_inside(roots, parent, folder)
        files, links = _list(os.path.join(roots[0], parent))
        for place in places:
            file = names[place].rpartition('/')[2]
            if file not in files:
                missing.append(place)
            elif file in links:
                _check_inside(roots, names[place], folder)
    return sorted(missing)


def fit_names(names: list[str], folder: str | os.PathLike[str]) -> list[str]:
    """Remove leading folders from all names if the images are found in a folder then.

    Tools write absolute paths, or paths from a folder above the image folder.

    Args:
        names: Names with ``/``, which may be absolute; all different.
        folder: The image folder.

    Returns:
        The names with as few leading folders removed as find the most images; those
        given if that finds no more.
    """

    def lost(candidates: list[str]) -> int:
        files: dict[str, set[str]] = {}
        count = 0
        for name in candidates:
            parent, _, file = name.rpartition('/')
            if parent not in files:
                inside = not _NO_PART.search(name)
                files[parent] = (
                    _list(os.path.join(folder, parent))[0] if inside else set()
                )
            count += file not in files[parent]
        return count

    best, fewest = names, lost(names)
    deepest = max((name.count('/') for name in names), default=0)
    for leading in range(1, deepest + 1):
        if not fewest:
            break
        shorter = [name.split('/', leading)[-1] for name in names]
        if len(set(shorter)) == len(shorter) and (count := lost(shorter)) < fewest:
            best, fewest = shorter, count
    return best


def find_renamed(missing: Sequence[str], present: Sequence[str]) -> dict[str, str]:
    """Find what missing images may be called in the image folder.

    Capital letters, the form of letters with accents, ``%20`` and the like, folders,
    the suffix, and Label Studio's eight digits in front may differ.

    Args:
        missing: Names of missing images.
        present: Names of images that are there.

    Returns:
        Missing to present names; without those that fit no present one, or several.
    """

    def plain(name: str) -> str:
        file = unicodedata.normalize('NFC', unquote(name)).rpartition('/')[2]
        return re.sub(r'^[0-9a-f]{8}-', '', os.path.splitext(file)[0].casefold())

    known = defaultdict[str, list[str]](list)
    for name in present:
        known[plain(name)].append(name)
    fitting = {name: known.get(plain(name), ()) for name in missing}
    return {name: found[0] for name, found in fitting.items() if len(found) == 1}


@dataclass
class Scan:
    """What a folder holds.

    Attributes:
        images: Names of the images, sorted.
        undecodable: Names of images of a kind that cannot be read, as ``.heic``.
        foreign: Folders that other programs left, as ``@eaDir``; they are not entered.
    """

    images: list[str] = field(default_factory=list)
    undecodable: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def scan(
    folder: str | os.PathLike[str], link_root: str | os.PathLike[str] | None = None
) -> Scan:
    """Find all images below a folder; hidden files and folders are left out.

    A subfolder that is a link is entered only if it leads below ``link_root``: else,
    what it leads to is in the folder already.

    Args:
        folder: The image folder.
        link_root: Links may lead to places below it, too.

    Raises:
        ValueError: If a name is refused by `check_name`, or a link leads out of the
            folder.
    """
    roots = _roots(folder, link_root)
    found = Scan()
    below, entered = [''], {roots[0]}
    while below:
        parent = below.pop()
        with os.scandir(os.path.join(roots[0], parent)) as entries:
            for entry in entries:
                name = parent + entry.name
                hidden = entry.name.startswith('.')
                lower = entry.name.lower()
                if entry.is_symlink() and os.path.isdir(entry.path):
                    real = _check_inside(roots, name, folder)
                    if _is_below(real, roots[0]) or real in entered or hidden:
                        continue
                    entered.add(real)
                    below.append(f'{name}/')
                elif entry.is_dir(follow_symlinks=False):
                    if hidden or lower in _FOREIGN_FOLDERS:
                        found.foreign.append(name)
                    else:
                        below.append(f'{name}/')
                elif hidden:
                    continue
                elif lower.endswith(IMAGE_SUFFIXES):
                    if entry.is_symlink():
                        _check_inside(roots, name, folder)
                    found.images.append(check_name(name, folder))
                elif lower.endswith(OTHER_IMAGES):
                    found.undecodable.append(name)
    for each in vars(found).values():
        each.sort()
    return found


def find_images(
    folder: str | os.PathLike[str], link_root: str | os.PathLike[str] | None = None
) -> list[str]:
    """Return the names of all images below a folder, see `scan`."""
    return scan(folder, link_root).images


def examples(names: Sequence[str]) -> str:
    """Return the first three of some names for a message.

    A byte that is not UTF-8 is escaped, since it could not be printed.
    """
    text = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
    return text.encode(errors='backslashreplace').decode()


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


def _roots(
    folder: str | os.PathLike[str], link_root: str | os.PathLike[str] | None
) -> list[str]:
    return [os.path.realpath(each) for each in (folder, link_root) if each is not None]


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ''))


def _check_inside(roots: list[str], name: str, folder: str | os.PathLike[str]) -> str:
    """Return the place that a name leads to, which must be below one of the roots."""
    real = os.path.realpath(os.path.join(roots[0], name))
    if not any(_is_below(real, root) for root in roots):
        raise ValueError(
            f'{folder}: {name!r} leads out of the image folder, to {real!r}: put the '
            'images there instead of a link, or name the folder that links may lead '
            'to: link_root in a config, --link-root on the command line'
        )
    return real
