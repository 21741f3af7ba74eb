"""Items: the image polygons that make up a scene; here also those of its street."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely

from .camera import Camera
from .domains import Colour, Domain
from .shapes import GLASS, Part, Points, ellipse, rectangle, shade

END = 95.0  # metres to the end of the street
NEAREST = 3.0


@dataclass
class Item:
    """One polygon of the annotation and how to paint it.

    Attributes:
        label: Cityscapes class name.
        polygon: Integer pixel corners of the silhouette, inside the image.
        order: Distance by which items are painted, far ones first, metres.
        depth: Nearest and farthest distance of its surface, metres.
        wall: World X of the surface if it runs along the street, else None.
        parts: Pairs of a pixel polygon (N, 2), or M of them (M, N, 2), and a colour,
            from back to front.
        base: Colours at the silhouette's top and bottom; None shows what is behind.
        shadow: Whether it darkens the ground below.
    """

    label: str
    polygon: list[tuple[int, int]]
    order: float
    depth: tuple[float, float]
    wall: float | None = None
    parts: list[tuple[Points, Colour]] = field(default_factory=list)
    base: tuple[Colour, Colour] | None = None
    shadow: bool = False


def silhouette(
    polygons: Sequence[Points], size: tuple[int, int]
) -> list[tuple[int, int]] | None:
    """Return the outline of a union of pixel polygons, cut at the image's border.

    Args:
        polygons: Pixel polygons ``(u, v)``, each of shape (N, 2).
        size: Image height and width.

    Returns:
        Integer corners of the largest piece in the image; None if there is none.
    """
    rows, columns = size
    if len(polygons) == 1:
        seen = shapely.clip_by_rect(
            shapely.Polygon(polygons[0]), 0, 0, columns - 1, rows - 1
        )
        pieces = [
            np.rint(np.asarray(piece.exterior.coords)[:-1]).astype(np.int32)
            for piece in shapely.get_parts(seen)
            if piece.geom_type == 'Polygon'
        ]
        corner = np.zeros(2, np.int32)
    else:
        # A union is a few fills on the pixel grid: far cheaper than exact geometry.
        points = np.concatenate(polygons)
        corner = np.maximum(np.floor(points.min(0)), 0).astype(np.int32)
        last = np.minimum(np.ceil(points.max(0)), (columns - 1, rows - 1))
        width, height = (last.astype(np.int32) - corner + 1).tolist()
        if width < 1 or height < 1:
            return None
        mask = np.zeros((height, width), np.uint8)
        for each in polygons:
            cv2.fillPoly(mask, [np.rint(each - corner).astype(np.int32)], 1)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        pieces = [cv2.approxPolyDP(each, 0.6, True)[:, 0] for each in contours]
    pieces = [piece for piece in pieces if len(piece) > 2]
    if not pieces:
        return None
    largest = max(pieces, key=cv2.contourArea) + corner
    return [(u, v) for u, v in largest.tolist()]


def _flat(
    label: str, quad: Points, size: tuple[int, int], colour: Colour, depth: float
) -> Item | None:
    outline = silhouette([quad], size)
    if outline is None:
        return None
    return Item(label, outline, END + depth, (0.0, 0.0), base=(colour, colour))


def ground(
    rng: np.random.Generator,
    domain: Domain,
    camera: Camera,
    size: tuple[int, int],
    kerb: float,
) -> list[Item]:
    """Make the sky, the sidewalk, and the road with its markings, to the horizon."""
    rows, columns = size
    frame = rectangle(0, 0, columns - 1, rows - 1)
    corners = silhouette([frame], size)
    assert corners is not None
    sky = Item('sky', corners, 4 * END, (np.inf, np.inf), base=domain.sky)
    horizon = camera.v0 + camera.focal * camera.height / END
    tone = rng.uniform(0.9, 1.1)
    walk = _flat(
        'sidewalk',
        rectangle(-1, horizon, columns, rows),
        size,
        shade(domain.sidewalk, tone),
        2.0 * END,
    )

    def strip(left: float, right: float, near: float, far: float) -> Points:
        x = np.array([left, right, right, left])
        return camera.project(x, np.zeros(4), np.array([near, near, far, far]))

    near = NEAREST

    road = _flat(
        'road', strip(-kerb, kerb, near, END), size, shade(domain.road, tone), END
    )
    items = [sky]
    if walk is not None:
        slabs = shade(domain.sidewalk, tone * 0.9)
        for z in np.geomspace(NEAREST, 40.0, 14):
            walk.parts.append((strip(-40, 40, z, z * 1.02), slabs))
        items.append(walk)
    if road is not None:
        edge = shade(domain.sidewalk, 0.7)
        road.parts += [
            (strip(-kerb, -kerb + 0.2, near, END), edge),
            (strip(kerb - 0.2, kerb, near, END), edge),
        ]
        for _ in range(6):
            x, z = rng.uniform(-kerb, kerb), rng.uniform(5, 40)
            road.parts.append(
                (
                    strip(x, x + rng.uniform(0.5, 2), z, z + rng.uniform(0.5, 5)),
                    shade(domain.road, tone * rng.uniform(0.85, 1.12)),
                )
            )
        phase = rng.uniform(0, 6)
        for z in np.arange(NEAREST, 70.0, 6.0) + phase:
            road.parts.append((strip(-0.08, 0.08, z, z + 3.0), domain.marking))
        for x in (-kerb + 0.6, kerb - 0.6):
            road.parts.append((strip(x - 0.06, x + 0.06, near, 70.0), domain.marking))
        if rng.random() < 0.3:
            z = rng.uniform(8, 20)
            for x in np.arange(-kerb + 0.8, kerb - 0.8, 1.1):
                road.parts.append((strip(x, x + 0.55, z, z + 3.0), domain.marking))
        items.append(road)
    return items


def buildings(
    rng: np.random.Generator,
    domain: Domain,
    camera: Camera,
    size: tuple[int, int],
    wall: float,
) -> list[Item]:
    """Make a row of facades on either side, and maybe a house across the end."""
    items = []
    for side in (-1.0, 1.0):
        near = NEAREST
        while near < END - 5:
            far = min(END, near + rng.uniform(8, 20))
            if rng.random() < 0.88:
                item = _facade(rng, domain, camera, size, side * wall, (near, far))
                if item is not None:
                    items.append(item)
            near = far
    if rng.random() < 0.7:
        tall, half = rng.uniform(8, 20), rng.uniform(10, 30)
        quad = camera.project(
            np.array([-half, half, half, -half]),
            np.array([0.0, 0.0, tall, tall]),
            END,
        )
        colour = domain.buildings[int(rng.integers(len(domain.buildings)))]
        outline = silhouette([quad], size)
        if outline is not None:
            base = (colour, shade(colour, 0.9))
            items.append(Item('building', outline, END, (END, END), base=base))
    return items


def _facade(
    rng: np.random.Generator,
    domain: Domain,
    camera: Camera,
    size: tuple[int, int],
    wall: float,
    reach: tuple[float, float],
) -> Item | None:
    near, far = reach
    storeys = int(rng.integers(2, 6))
    top = 3.4 * storeys + 1.0
    colour = domain.buildings[int(rng.integers(len(domain.buildings)))]
    colour = shade(colour, rng.uniform(0.85, 1.15))

    def place(points: Points) -> Points:
        return camera.project(wall, points[:, 1], points[:, 0])

    outline = silhouette([place(rectangle(near, 0, far, top))], size)
    if outline is None:
        return None
    item = Item('building', outline, (near + far) / 2, reach, wall)
    item.base = (colour, shade(colour, 0.85))
    item.parts.append((place(rectangle(near, top - 0.6, far, top)), shade(colour, 0.6)))
    columns = max(2, int((far - near) / 2.8))
    pitch = (far - near) / columns
    z, low = np.meshgrid(
        near + pitch * (np.arange(columns) + 0.28), 3.4 * np.arange(storeys) + 1.0
    )
    corners = np.stack([z.ravel(), low.ravel()], axis=1)[:, None] + rectangle(
        0, 0, 0.44 * pitch, 1.8
    )
    panes = place(corners.reshape(-1, 2)).reshape(-1, 4, 2)
    lit = rng.random(len(panes)) < domain.lit_windows
    item.parts += [(panes[~lit], GLASS), (panes[lit], (236, 196, 110))]
    return item


def tree(
    rng: np.random.Generator,
    domain: Domain,
    camera: Camera,
    size: tuple[int, int],
    where: tuple[float, float],
) -> Item | None:
    """Make a trunk under a crown of blobs, or a bush of blobs on the ground."""
    x, z = where
    colour = domain.vegetation[int(rng.integers(len(domain.vegetation)))]
    bush = rng.random() < 0.3
    spread = rng.uniform(0.5, 0.9) if bush else rng.uniform(1.1, 2.0)
    middle = 0.5 if bush else rng.uniform(3.4, 5.0)
    blobs = [
        ellipse(a, max(y, 0.3), spread * r, spread * r * 0.85)
        for a, y, r in zip(
            rng.normal(0, 0.55 * spread, 7),
            middle + rng.normal(0, 0.35 * spread, 7),
            rng.uniform(0.5, 0.9, 7),
            strict=True,
        )
    ]
    parts = [Part(blob, colour) for blob in blobs]
    if not bush:
        parts.insert(0, Part(rectangle(-0.15, 0, 0.15, middle), (84, 64, 48)))
    pixels = [
        camera.project(x + part.points[:, 0], part.points[:, 1], z) for part in parts
    ]
    outline = silhouette(pixels, size)
    if outline is None:
        return None
    item = Item('vegetation', outline, z, (z, z), base=(colour, shade(colour, 0.8)))
    item.parts = [
        (points, part.colour)
        for points, part in zip(pixels, parts, strict=True)
        if part.colour is not None
    ]
    leaf = ellipse(x, middle, 0.16 * spread, 0.13 * spread)
    for tone in (0.65, 0.8, 1.15, 1.3):
        where_NC = rng.normal(0, (0.8 * spread, 0.6 * spread), (7, 2))
        leaves = (where_NC[:, None] + leaf).reshape(-1, 2)
        pixels_NC = camera.project(leaves[:, 0], leaves[:, 1], z)
        item.parts.append((pixels_NC.reshape(7, -1, 2), shade(colour, tone)))
    return item
