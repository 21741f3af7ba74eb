"""Render a scene's items: labels, depth and colour.

Labels are drawn with PIL's polygon in the order of the annotation, exactly as
cityscapesscripts' ``json2instanceImg`` and ``json2labelImg`` do. So these tools
reproduce our PNGs. Colour covers exactly the same pixels.
"""

from dataclasses import dataclass
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt
from cityscapesscripts.helpers.labels import name2label
from PIL import Image, ImageDraw

from .camera import Camera
from .domains import DOMAINS, Domain, draw_look
from .effects import apply_effects
from .items import END, Item
from .layout import lay_out

SHIFT = 4  # fractional bits of cv2's coordinates
# Objects that show less of their silhouette, or of the image, are left out.
VISIBLE = 0.2
SMALLEST = 30 / (128 * 256)


@dataclass(frozen=True)
class Scene:
    """One image with its ground truth.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        instance_ids: int32, shape (H, W), in Cityscapes' encoding: ``labelId * 1000
            + k`` on the k-th object of a thing class, ``labelId`` elsewhere.
        depth: Distance along the optical axis in metres, float32, shape (H, W);
            infinite in the sky.
        camera: The camera that saw it.
        objects: Class name and integer polygon of each object, in cityscapesscripts'
            order of painting.
    """

    image: npt.NDArray[np.uint8]
    instance_ids: npt.NDArray[np.int32]
    depth: npt.NDArray[np.float32]
    camera: Camera
    objects: list[tuple[str, list[tuple[int, int]]]]

    @property
    def label_ids(self) -> npt.NDArray[np.uint8]:
        """Class of each pixel, uint8, shape (H, W)."""
        ids = self.instance_ids
        return np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)


def render_scene(
    domain: str, seed: int, split: str, index: int, size: tuple[int, int]
) -> Scene:
    """Draw scene number ``index`` of a split.

    The result depends only on the arguments.

    Args:
        domain: ``'source'``, ``'target'`` or ``'world'``.
        seed: Seed of the data set, not negative.
        split: Name of the split.
        index: Number of the image in its split, from 0.
        size: Image height and width.

    Raises:
        ValueError: If there is no such domain.
    """
    if domain not in DOMAINS:
        raise ValueError(f'no domain {domain!r}: choose one of {sorted(DOMAINS)}')
    key = (crc32(domain.encode()), crc32(split.encode()), index)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    look = DOMAINS[domain]
    if look.drawn:
        look = draw_look(rng)
    camera, items = lay_out(rng, look, size)
    items = _seen(items, size)
    image, order, depth = _paint(items, camera, size, look)
    image = apply_effects(rng, look, image, depth)
    objects = [(item.label, item.polygon) for item in items]
    return Scene(image, _identify(items)[order], depth, camera, objects)


def _identify(items: list[Item]) -> npt.NDArray[np.int32]:
    """Return Cityscapes' id of each item; entry 0 is for no item."""
    counts: dict[str, int] = {}
    ids = [name2label['unlabeled'].id]
    for item in items:
        label = name2label[item.label]
        number = counts.setdefault(item.label, 0)
        counts[item.label] += 1
        ids.append(label.id * 1000 + number if label.hasInstances else label.id)
    return np.array(ids, dtype=np.int32)


def _seen(items: list[Item], size: tuple[int, int]) -> list[Item]:
    """Leave out objects that show too little, and items that show nothing."""
    canvas = Image.new('I', size[::-1])
    drawer = ImageDraw.Draw(canvas)
    whole = []
    for number, item in enumerate(items, 1):
        drawer.polygon(item.polygon, fill=number)
        corners = np.array(item.polygon, dtype=np.float32)
        whole.append(cv2.contourArea(corners))
    visible = np.bincount(np.asarray(canvas).ravel(), minlength=len(items) + 1)[1:]
    least = SMALLEST * size[0] * size[1]
    return [
        item
        for item, area, full in zip(items, visible, whole, strict=True)
        if (area >= max(least, VISIBLE * full))
        or (not name2label[item.label].hasInstances and area > 0)
    ]


def _paint(
    items: list[Item], camera: Camera, size: tuple[int, int], domain: Domain
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Paint the items one over another.

    Returns:
        The colours, uint8 (H, W, 3); the number of the item on top, from 1, int32
        (H, W); and the depth in metres, float32 (H, W).
    """
    rows, columns = size
    image = np.zeros((rows, columns, 3), np.uint8)
    depth = np.full((rows, columns), np.inf, np.float32)
    canvas = Image.new('I', (columns, rows))
    drawer = ImageDraw.Draw(canvas)
    for number, item in enumerate(items, 1):
        drawer.polygon(item.polygon, fill=number)
        corners = np.array(item.polygon)
        left, top = corners.min(0)
        right, bottom = corners.max(0) + 1
        mask = np.asarray(canvas.crop((left, top, right, bottom))) == number
        window = (slice(top, bottom), slice(left, right))
        if item.shadow:
            _shadow(image, corners)
        patch = _patch(item, image[window], (left, top))
        cv2.copyTo(patch, mask.view(np.uint8), image[window])
        u = np.arange(left, right, dtype=np.float32)[None]
        v = np.arange(top, bottom, dtype=np.float32)[:, None]
        np.copyto(depth[window], _depth(item, camera, u, v), where=mask)
    return image, np.asarray(canvas), depth


def _patch(
    item: Item, behind: npt.NDArray[np.uint8], corner: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Return the item's colours in its bounding box, uint8 (h, w, 3)."""
    rows, columns = behind.shape[:2]
    if item.base is None:
        patch = behind.copy()
    else:
        column = np.linspace(*item.base, rows).astype(np.uint8)[:, None]
        patch = np.asarray(cv2.resize(column, (columns, rows)), np.uint8)
    for points, colour in item.parts:
        fixed = np.rint((points - corner) * (1 << SHIFT)).astype(np.int32)
        polygons = [fixed] if fixed.ndim == 2 else list(fixed)
        cv2.fillPoly(patch, polygons, colour, lineType=cv2.LINE_AA, shift=SHIFT)
    return patch


def _shadow(image: npt.NDArray[np.uint8], corners: npt.NDArray[np.int64]) -> None:
    """Darken the ground under an object."""
    left, right = corners[:, 0].min(), corners[:, 0].max()
    bottom = corners[:, 1].max()
    half = int(0.52 * (right - left)) + 1
    flat = int(0.12 * half) + 1
    top, first = max(0, bottom - flat), max(0, left - 2)
    window = image[top : bottom + flat + 1, first : right + 3]
    mask = np.zeros(window.shape[:2], np.uint8)
    middle = (int(left + right) // 2 - int(first), int(bottom - top))
    cv2.ellipse(mask, middle, (half, flat), 0, 0, 360, 1, cv2.FILLED)
    cv2.copyTo(cv2.convertScaleAbs(window, alpha=0.55), mask, window)


def _depth(
    item: Item,
    camera: Camera,
    u: npt.NDArray[np.float32],
    v: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Return metres at columns ``u`` (1, w) and rows ``v`` (h, 1), broadcastable."""
    with np.errstate(divide='ignore'):
        if item.label in ('road', 'sidewalk'):
            drop = np.float32(camera.focal * camera.height)
            return drop / np.maximum(v - np.float32(camera.v0), drop / np.float32(END))
        if item.wall is not None:
            plane = np.float32(camera.focal * item.wall) / (u - np.float32(camera.u0))
            nearest, farthest = (np.float32(metres) for metres in item.depth)
            return np.clip(np.where(plane > 0, plane, farthest), nearest, farthest)
    return np.full((1, 1), item.depth[0], np.float32)
