"""Turn a depth map into coloured points, and write them as a PLY file.

Points are in the camera's coordinates, in metres: x right, y down, z ahead.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmcast.datasets.depth_files import CameraFile
from mmcast.files import open_atomic


def check_camera(camera: CameraFile, size: tuple[int, int]) -> None:
    """Check that a camera can be that of an image.

    Args:
        camera: The camera.
        size: Height and width of the image in pixels.

    Raises:
        ValueError: The principal point is outside the image, as it is if the image was
            resized or cropped and the camera was not.
    """
    height, width = size
    if not (0 < camera.u0 < width and 0 < camera.v0 < height):
        raise ValueError(
            f'the principal point ({camera.u0:.1f}, {camera.v0:.1f}) is outside the '
            f'image of {width} x {height} pixels: give the camera file of this image, '
            'and the image at its original size'
        )


def back_project(
    depth: npt.NDArray[np.floating], camera: CameraFile, stride: int = 1
) -> npt.NDArray[np.float32]:
    """Return the point that each pixel shows.

    With ``z = depth``, pixel (u, v) shows ``x = (u - u0) / fx * z`` and
    ``y = (v - v0) / fy * z``. The upper left pixel is (0, 0).

    Args:
        depth: Metres along the optical axis (H, W).
        camera: The camera of the image at this size.
        stride: Take each ``stride``-th pixel of each ``stride``-th row.

    Returns:
        Metres x, y, z, float32 (h, w, 3): the points of ``depth[::stride, ::stride]``.
        They are (0, 0, 0) where the depth is 0.

    Raises:
        ValueError: The principal point is outside the image, or the stride is not
            positive.
    """
    check_camera(camera, depth.shape)
    if stride < 1:
        raise ValueError(f'a stride of {stride}: give 1 for all pixels, or more')
    v, u = np.mgrid[: depth.shape[0] : stride, : depth.shape[1] : stride]
    z = depth[::stride, ::stride].astype(np.float64)
    x = (u - camera.u0) / camera.fx * z
    y = (v - camera.v0) / camera.fy * z
    return np.stack([x, y, z], -1).astype(np.float32)


def write_ply(
    path: str | Path,
    points: npt.NDArray[np.floating],
    colours: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer] | None = None,
) -> None:
    """Write points as a binary little-endian PLY that appears whole or not at all.

    A point's properties are ``float x, y, z`` and ``uchar red, green, blue``, and with
    labels ``uchar label``.

    Args:
        path: The file; missing parent folders are made.
        points: Metres x, y, z in the camera's coordinates (n, 3).
        colours: RGB, uint8 (n, 3).
        labels: Class indices in 0 to 255 (n,), or None.

    Raises:
        ValueError: The arrays have different numbers of points, or a label does not
            fit into a byte.
    """
    fields = [(name, '<f4') for name in 'xyz']
    fields += [(name, 'u1') for name in ('red', 'green', 'blue')]
    columns = [*points.T, *colours.T]
    if labels is not None:
        if labels.size and not 0 <= labels.min() <= labels.max() <= 255:
            raise ValueError(
                f'labels in {labels.min()} to {labels.max()}: a PLY file here has one '
                'byte for a label, so give 0 to 255'
            )
        fields.append(('label', 'u1'))
        columns.append(labels)
    if len({len(column) for column in columns}) != 1 or len(columns) != len(fields):
        shapes = [
            found.shape for found in (points, colours, labels) if found is not None
        ]
        raise ValueError(f'arrays of {shapes}: give (n, 3), (n, 3) and (n,)')
    vertices = np.empty(len(points), fields)
    for (name, _), column in zip(fields, columns, strict=True):
        vertices[name] = column
    kinds = {'<f4': 'float', 'u1': 'uchar'}
    header = [
        'ply',
        'format binary_little_endian 1.0',
        'comment camera coordinates in metres: x right, y down, z ahead',
        f'element vertex {len(points)}',
        *(f'property {kinds[kind]} {name}' for name, kind in fields),
        'end_header',
    ]
    with open_atomic(path) as file:
        file.write('\n'.join(header).encode() + b'\n' + vertices.tobytes())
