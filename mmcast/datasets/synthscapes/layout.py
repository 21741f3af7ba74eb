"""Place the objects of a scene: groups, crowds, riders, and their projection."""

from collections.abc import Callable

import cv2
import numpy as np

from .camera import Camera
from .domains import Colour, Domain
from .items import END, Item, buildings, ground, silhouette, tree
from .people import bicycle, motorcycle, person, rider
from .shapes import Part, Points, Shape
from .vehicles import bus, car, train, truck

Maker = Callable[[np.random.Generator, Domain], Shape]
MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (person, car, truck, bus, train, motorcycle, bicycle)
}
VEHICLES = ('car', 'truck', 'bus', 'train')
# Nearest and farthest distance of each class, in metres. At 128x256 most objects then
# cover some 60 to 3,000 pixels.
REACH = {
    'person': (6.0, 24.0),
    'car': (7.0, 34.0),
    'bicycle': (5.5, 17.0),
    'motorcycle': (6.0, 20.0),
    'truck': (12.0, 38.0),
    'bus': (14.0, 42.0),
    'train': (20.0, 50.0),
}


def lay_out(
    rng: np.random.Generator, domain: Domain, size: tuple[int, int]
) -> tuple[Camera, list[Item]]:
    """Draw a scene.

    Args:
        rng: Source of all randomness.
        domain: Object statistics and palette.
        size: Image height and width.

    Returns:
        The camera, and the items in painter's order, far ones first.
    """
    camera = Camera.draw(rng, size)
    kerb = rng.uniform(4.5, 7.5)
    wall = kerb + rng.uniform(2.5, 4.5)
    items = ground(rng, domain, camera, size, kerb)
    items += buildings(rng, domain, camera, size, wall)
    for _ in range(int(rng.integers(2, 8))):
        x = rng.choice((-1, 1)) * rng.uniform(kerb + 1.0, wall)
        item = tree(rng, domain, camera, size, (x, float(rng.uniform(12, 60))))
        if item is not None:
            items.append(item)
    kinds = list(domain.group_weights)
    weights = np.array([domain.group_weights[kind] for kind in kinds])
    for _ in range(
        int(rng.integers(domain.group_counts[0], domain.group_counts[1] + 1))
    ):
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        items += _group(rng, domain, camera, size, kind, kerb)
    items.sort(key=lambda item: -item.order)
    return camera, items


def _group(
    rng: np.random.Generator,
    domain: Domain,
    camera: Camera,
    size: tuple[int, int],
    kind: str,
    kerb: float,
) -> list[Item]:
    """Make one object, or a crowd of one class whose members touch and overlap."""
    near, far = REACH[kind]
    z = float(np.exp(rng.uniform(np.log(near), np.log(far)))) * domain.distance
    along = kind in VEHICLES and rng.random() < domain.along
    crowded = kind != 'train' and rng.random() < domain.crowd
    count = int(rng.integers(domain.crowd_size[0], domain.crowd_size[1] + 1))
    if kind in ('truck', 'bus'):
        count = min(count, 2)
    if not crowded:
        count = 1
    # Centres are in view, some so far out that the border cuts the object.
    reach = 1.02 * z * size[1] / (2 * camera.focal)
    if along:
        x = float(rng.choice((-1, 1))) * rng.uniform(0.35, 0.85) * kerb
        x = float(np.clip(x, -reach, reach))
    elif kind == 'person' and rng.random() < 0.6:
        x = float(rng.choice((-1, 1))) * rng.uniform(kerb, kerb + 2.5)
        x = x if abs(x) < reach else float(rng.uniform(-reach, reach))
    else:
        x = float(rng.uniform(-reach, reach))
    mounted = kind in ('bicycle', 'motorcycle') and rng.random() < 0.55
    heading = rng.random() < 0.5
    items: list[Item] = []
    for _ in range(count):
        shape = MAKERS[kind](rng, domain)
        flip = heading if kind in VEHICLES else rng.random() < 0.5
        squeeze = 1.0 if kind in (*VEHICLES, 'person') else rng.uniform(0.6, 1.0)
        shape.squeeze(squeeze)
        seat = rider(rng, domain, kind) if mounted else None
        if seat is not None:
            seat.squeeze(squeeze)
        for member in (shape, seat):
            if member is None:
                continue
            if flip:
                member.mirror()
            item = _place(member, camera, size, (x, z), along)
            if item is not None:
                # A rider covers the saddle, so it comes after the mount.
                item.order -= 0.01 if member is seat else 0.0
                items.append(item)
        gap = rng.uniform(*domain.crowd_gap)
        if along:
            z += (shape.length + 0.6) * max(gap, 1.0)
        else:
            width = shape.width if kind not in VEHICLES else shape.length
            x += width * squeeze * gap * (1 if x < 0 else -1)
            z += rng.uniform(-0.4, 0.4)
    return items


def _place(
    shape: Shape,
    camera: Camera,
    size: tuple[int, int],
    where: tuple[float, float],
    along: bool,
) -> Item | None:
    """Project a shape at ``where`` (X, Z) into the image."""
    x, z = where
    if z > END:
        return None
    depth, wall = (z, z), None
    drawn: list[tuple[Points, Colour | None]] = []
    upright = _project(shape.face if along else shape.side, camera, x, z)
    if along:
        # The flank that faces the middle of the street, then the face in front of it.
        flank = x - np.sign(x) * shape.width / 2
        if abs(x) > shape.width / 2:
            wall, depth = float(flank), (z, z + shape.length)
            drawn += _project(shape.side, camera, wall, z, shape.length)
            # Roof and underside join the two: from the tallest part to the face.
            tallest = min(drawn, key=lambda each: each[0][:, 1].min())
            corners = np.concatenate([tallest[0], *(each for each, _ in upright)])
            hull = cv2.convexHull(corners.astype(np.float32))[:, 0]
            drawn.insert(0, (hull.astype(np.float64), tallest[1]))
    drawn += upright
    outline = silhouette([points for points, _ in drawn], size)
    if outline is None:
        return None
    return Item(
        shape.label,
        outline,
        z + (0.3 * shape.length if along else 0.0),
        depth,
        wall,
        [(points, colour) for points, colour in drawn if colour is not None],
        shadow=shape.label != 'rider',
    )


def _project(
    parts: list[Part], camera: Camera, x: float, z: float, length: float = 0.0
) -> list[tuple[Points, Colour | None]]:
    """Project parts that face the camera, or, given a length, run away from it."""
    points = np.concatenate([part.points for part in parts])
    a, y = points[:, 0], points[:, 1]
    pixels = (
        camera.project(x, y, z + length / 2 + a)
        if length
        else camera.project(x + a, y, z)
    )
    ends = np.cumsum([len(part.points) for part in parts]).tolist()
    return [
        (pixels[end - len(part.points) : end], part.colour)
        for part, end in zip(parts, ends, strict=True)
    ]
