"""Shapes: objects made of flat coloured parts, in metres.

A shape is on the ground at the origin. ``a`` runs along its length (on its face, along
its width), ``y`` runs up. The silhouette is the union of the parts, so the outline
always agrees with what is drawn inside.
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .domains import Colour, Domain

Points = npt.NDArray[np.float64]
DARK: Colour = (28, 28, 32)
GLASS: Colour = (58, 70, 84)
RUBBER: Colour = (34, 34, 36)


@dataclass(frozen=True)
class Part:
    """A flat polygon of one colour.

    Attributes:
        points: Corners ``(a, y)`` in metres, shape (N, 2).
        colour: RGB in 0..255; None adds to the silhouette but shows what is behind
            (the inside of a bicycle's wheel).
    """

    points: Points
    colour: Colour | None


@dataclass
class Shape:
    """One object: its parts from back to front.

    Attributes:
        label: Cityscapes class name.
        side: Parts seen from the side.
        face: Parts seen from ahead or behind; empty if there is only a side view.
        length: Extent along the street when seen along it, metres.
        width: Width of the face, metres.
    """

    label: str
    side: list[Part]
    face: list[Part] = field(default_factory=list)
    length: float = 0.0
    width: float = 0.0

    def mirror(self) -> None:
        """Mirror the side view."""
        self.side = [Part(part.points * (-1.0, 1.0), part.colour) for part in self.side]

    def squeeze(self, factor: float) -> None:
        """Shorten the side view, as if seen at an angle."""
        self.side = [
            Part(part.points * (factor, 1.0), part.colour) for part in self.side
        ]


def polygon(*corners: tuple[float, float]) -> Points:
    return np.array(corners, dtype=np.float64)


def rectangle(left: float, bottom: float, right: float, top: float) -> Points:
    return polygon((left, bottom), (right, bottom), (right, top), (left, top))


_ANGLE = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)


def ellipse(a: float, y: float, radius_a: float, radius_y: float) -> Points:
    return _CIRCLE * (radius_a, radius_y) + (a, y)


def limb(
    start: tuple[float, float], end: tuple[float, float], first: float, last: float
) -> Points:
    """Return a bar, ``first`` wide at its start and ``last`` wide at its end."""
    (a, y), (b, x) = start, end
    half = 0.5 / math.hypot(b - a, x - y)
    da, dy = (y - x) * half, (b - a) * half
    return polygon(
        (a + da * first, y + dy * first),
        (b + da * last, x + dy * last),
        (b - da * last, x - dy * last),
        (a - da * first, y - dy * first),
    )


def shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


def paint(
    rng: np.random.Generator,
    domain: Domain,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hues: Sequence[float] | None = None,
) -> Colour:
    """Draw a colour, with the domain's factors for vehicles and clothes."""
    hue = rng.random() if hues is None else rng.choice(hues) + rng.normal(0, 0.015)
    red, green, blue = colorsys.hsv_to_rgb(
        hue % 1.0,
        rng.uniform(*saturation) * domain.paint[0],
        rng.uniform(*value) * domain.paint[1],
    )
    return int(red * 255), int(green * 255), int(blue * 255)
