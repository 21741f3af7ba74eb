"""Read Cityscapes' camera and disparity files, and depth maps in PNG.

Cityscapes stores a disparity of d pixels as ``256 d + 1``, and 0 where there is none.
Depth is ``baseline * fx / d`` metres, with the baseline and the focal length of each
image's own camera file.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

FloatMap = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CameraFile:
    """What a ``*_camera.json`` says; pixels, the baseline in metres."""

    baseline: float
    fx: float
    fy: float
    u0: float
    v0: float

    @classmethod
    def read(cls, path: str | Path) -> 'CameraFile':
        """Read a camera file in Cityscapes' layout.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no JSON, or lacks a field, or a field is not a positive
                number.
        """
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{path} is missing: unpack the camera files (Cityscapes: '
                'camera_trainvaltest.zip) into the data root'
            ) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f'{path} is no JSON ({error}): unpack the camera files again'
            ) from None
        values = {}
        for group, name in (
            ('extrinsic', 'baseline'),
            ('intrinsic', 'fx'),
            ('intrinsic', 'fy'),
            ('intrinsic', 'u0'),
            ('intrinsic', 'v0'),
        ):
            found = content.get(group) if isinstance(content, dict) else None
            value = found.get(name) if isinstance(found, dict) else None
            if not isinstance(value, int | float) or not 0 < value < float('inf'):
                raise ValueError(
                    f'{path} has no positive number {group}.{name}: give a camera '
                    'file in the layout of Cityscapes'
                )
            values[name] = float(value)
        return cls(**values)


def disparity_to_depth(coded: npt.NDArray[np.uint16], camera: CameraFile) -> FloatMap:
    """Decode Cityscapes' disparity.

    Args:
        coded: Content of a ``*_disparity.png``, any shape. 0 is no measurement, and so
            is 1, a disparity of zero.
        camera: The image's camera.

    Returns:
        Metres, 0 for no measurement, float32 in the same shape.
    """
    disparity = (coded.astype(np.float32) - 1) / 256
    found = disparity > 0
    scale = np.float32(camera.baseline * camera.fx)
    return np.divide(scale, disparity, out=np.zeros_like(disparity), where=found)


def read_png(path: str | Path) -> npt.NDArray[np.uint16]:
    """Read a PNG of one channel with 8 or 16 bits, as uint16 (H, W).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image of one channel.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} is missing: put the file there')
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 2 or pixels.dtype.kind != 'u':
        raise ValueError(
            f'{path} is no PNG of one channel with 8 or 16 bits: write it again'
        )
    return pixels.astype(np.uint16)
