"""Find images that lose bits when they are loaded. Nothing is decoded."""

import struct

_TIFF_BITS_PER_SAMPLE = 258
_J2K_SIZES = b'\xff\x4f\xff\x51'  # the start of a codestream: SOC and SIZ


def check_bits(content: bytes) -> None:
    """Raise a ValueError if an image file has more than 8 bits a channel."""
    bits = bits_per_channel(content)
    if bits > 8:
        raise ValueError(
            f'it has {bits} bits a channel, and loading keeps the upper 8: convert '
            "it to 8 bits, or load it with color_type='unchanged'"
        )


def bits_per_channel(content: bytes) -> int:
    """Return the bits per channel that an image's header states.

    Those of PNG, TIFF, JPEG 2000 and AVIF are read; other files have 8, as far as
    OpenCV decodes them.

    Args:
        content: The file's bytes; nothing is decoded.
    """
    try:
        if content[:8] == b'\x89PNG\r\n\x1a\n':
            return content[24]
        if content[:4] in (b'II*\0', b'MM\0*'):
            return _tiff_bits(content, '<' if content[:2] == b'II' else '>')
        if content[4:8] == b'jP  ' or content.startswith(_J2K_SIZES):
            return _j2k_bits(content)
        if content[4:8] == b'ftyp' and (start := content.find(b'av1C')) >= 0:
            # high_bitdepth and twelve_bit
            return {0: 8, 1: 8, 2: 10, 3: 12}[content[start + 6] >> 5 & 3]
    except (IndexError, ValueError, struct.error):
        pass  # damaged, as the decoder will say
    return 8


def _tiff_bits(content: bytes, order: str) -> int:
    (directory,) = struct.unpack_from(f'{order}I', content, 4)
    (entries,) = struct.unpack_from(f'{order}H', content, directory)
    for start in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, _, count = struct.unpack_from(f'{order}HHI', content, start)
        if tag == _TIFF_BITS_PER_SAMPLE:
            place = start + 8
            if count > 2:  # too long for the entry itself
                (place,) = struct.unpack_from(f'{order}I', content, place)
            (bits,) = struct.unpack_from(f'{order}H', content, place)
            return bits
    return 1


def _j2k_bits(content: bytes) -> int:
    """Return the most bits of a channel: the image header of a JP2 may lack them."""
    start = content.index(_J2K_SIZES)
    (channels,) = struct.unpack_from('>H', content, start + 40)
    depths = content[start + 42 : start + 42 + 3 * channels : 3]
    return max((depth & 127) + 1 for depth in depths)  # the top bit is the sign
