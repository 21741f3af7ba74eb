"""Write the files of one image, in Cityscapes' layout, names and encodings."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...files import write_atomic
from .camera import BASELINE
from .domains import DOMAINS
from .render import Scene, render_scene

# Noise does not compress: these are 3 times as fast as the defaults, not larger.
NOISY = [
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_SUB,
]
FRAME = 19  # Cityscapes annotates the 20th frame of a sequence


def image_files(root: Path, domain: str, split: str, index: int) -> dict[str, Path]:
    """Return the paths of an image's files, by kind; the image itself is last."""
    plain = re.sub('[^a-z0-9]', '', split.lower())
    cities = DOMAINS[domain].cities.get(split, (f'{domain}{plain}',))
    city = cities[index % len(cities)]
    stem = f'{city}_{index // len(cities):06d}_{FRAME:06d}'
    endings = {
        'camera': ('camera', 'camera.json'),
        'disparity': ('disparity', 'disparity.png'),
        'polygons': ('gtFine', 'gtFine_polygons.json'),
        'labels': ('gtFine', 'gtFine_labelIds.png'),
        'instances': ('gtFine', 'gtFine_instanceIds.png'),
        'image': ('leftImg8bit', 'leftImg8bit.png'),
    }
    return {
        kind: root / folder / split / city / f'{stem}_{ending}'
        for kind, (folder, ending) in endings.items()
    }


def encode_disparity(
    depth: npt.NDArray[np.float32], focal: float
) -> npt.NDArray[np.uint16]:
    """Encode Cityscapes' disparity: ``256 d + 1``, ``d`` in pixels; 0 is unknown.

    Args:
        depth: Metres, infinite if there is nothing, shape (H, W).
        focal: Focal length in pixels.
    """
    coded = np.rint(256.0 * BASELINE * focal / depth + 1)
    return np.where(np.isfinite(depth), np.minimum(coded, 65535), 0).astype(np.uint16)


def write_image(
    root: Path, domain: str, seed: int, split: str, index: int, size: tuple[int, int]
) -> None:
    """Draw an image and write its six files; arguments as in render_scene.

    ``leftImg8bit`` is written last, so an image that can be listed has its labels.
    """
    scene = render_scene(domain, seed, split, index, size)
    contents: dict[str, str | bytes] = {
        'camera': json.dumps(scene.camera.to_json(), indent=4),
        'disparity': _png(encode_disparity(scene.depth, scene.camera.focal)),
        'polygons': _polygons(scene),
        'labels': _png(scene.label_ids),
        'instances': _png(scene.instance_ids.astype(np.uint16)),
        'image': _png(np.ascontiguousarray(scene.image[..., ::-1]), *NOISY),
    }
    for kind, path in image_files(root, domain, split, index).items():
        write_atomic(path, contents[kind])


def _polygons(scene: Scene) -> str:
    rows, columns = scene.depth.shape
    objects = [{'label': label, 'polygon': corners} for label, corners in scene.objects]
    return json.dumps({'imgHeight': rows, 'imgWidth': columns, 'objects': objects})


def _png(pixels: npt.NDArray[np.integer], *options: int) -> bytes:
    _, data = cv2.imencode('.png', pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1, *options])
    return data.tobytes()
