"""Read image files to their end: what is wrong with them, and which are copies."""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmcast.datasets.image_bits import bits_per_channel
from mmcast.datasets.image_sizes import read_sizes

# Larger images take gigabytes in each process that reads them.
MOST_MEGAPIXELS = 178
# A longer image has less than a pixel of width where a network sees it whole.
MOST_TIMES_AS_LONG = 100
TOO_LARGE = 'too large'


@dataclass(frozen=True)
class ImageFile:
    """What an image file holds; sizes are (width, height)."""

    stored: tuple[int, int] = (0, 0)
    shown: tuple[int, int] = (0, 0)
    gray: bool = False
    bits: int = 8
    turned: bool = False
    error: str = ''

    @property
    def is_strip(self) -> bool:
        return max(self.shown) > MOST_TIMES_AS_LONG * min(self.shown)


def read_files(
    names: list[str], folder: Path, on_image: Callable[[int, int], None]
) -> dict[str, ImageFile]:
    files = {}
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
            # Pillow's, of large images and damaged EXIF, name no image.
            warnings.filterwarnings('ignore', module='PIL')
            paths = (folder / name for name in names)
            for name, file in zip(names, pool.map(_read_file, paths), strict=True):
                files[name] = file
                on_image(len(files), len(names))
    finally:
        cv2.utils.logging.setLogLevel(level)
    return files


def _read_file(path: Path) -> ImageFile:
    """Read an image to its end, as training will: a header does not tell a torn one."""
    try:
        content = path.read_bytes()
        with Image.open(path) as image:
            mode = image.mode
            size, shown, orientation = read_sizes(image, whole=True)
        if size[0] * size[1] > MOST_MEGAPIXELS * 1e6:
            return ImageFile(error=TOO_LARGE)
        # An eighth of the size is faster, but nothing is left of a narrow image.
        how = cv2.IMREAD_COLOR if min(size) < 64 else cv2.IMREAD_REDUCED_COLOR_8
        if cv2.imdecode(np.frombuffer(content, np.uint8), how) is None:
            return ImageFile(error='torn, or of an unknown kind')
    except Image.DecompressionBombError:
        return ImageFile(error=TOO_LARGE)
    except (OSError, ValueError, SyntaxError, RuntimeError, cv2.error) as error:
        return ImageFile(error=str(error) or type(error).__name__)
    bits = bits_per_channel(content)
    gray = mode in ('1', 'L', 'LA') or mode.startswith('I')
    return ImageFile(size, shown, gray, bits, orientation in range(2, 9))


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
