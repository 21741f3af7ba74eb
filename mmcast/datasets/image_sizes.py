"""The size of an image as training loads it: EXIF may turn it."""

import struct
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, TiffImagePlugin


def read_sizes(
    image: Image.Image, whole: bool = False
) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Return the size as stored and as loaded, (width, height), and the orientation.

    Args:
        image: An opened image.
        whole: Whether to find EXIF behind the pixels of a PNG, too: it is decoded then.
    """
    size = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # A newer Pillow has turned its `size` already.
        size = image.tag_v2[256], image.tag_v2[257]
    try:
        if whole and image.format == 'PNG' and 'exif' not in image.info:
            image.load()
        for key in 'xmp', 'XML:com.adobe.xmp':
            image.info.pop(key, None)  # Pillow's second source, which OpenCV ignores
        exif = Image.Image.getexif(image)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except (struct.error, SyntaxError, ValueError, KeyError, TypeError, OSError):
        orientation = 1  # as OpenCV takes damaged EXIF
    if image.format == 'AVIF' and image.info.get('exif', b'').startswith(b'Exif'):
        # Pillow made it of the AVIF's own turn, which OpenCV ignores.
        orientation = 1
    return size, size[::-1] if orientation in (5, 6, 7, 8) else size, orientation


def loaded_size(file: str | Path | BinaryIO) -> tuple[int, int] | None:
    """Return the (width, height) that an image is loaded with, from its header.

    Args:
        file: The image file; or its content, opened.

    Returns:
        None if the header cannot be read.
    """
    try:
        with Image.open(file) as image:
            return read_sizes(image)[1]
    except Image.DecompressionBombError:
        return None
    except (OSError, ValueError, SyntaxError, KeyError, RuntimeError):
        return None  # a RuntimeError is of an AVIF
