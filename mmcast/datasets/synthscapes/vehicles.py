"""Shapes of cars, trucks, buses and trains: their side views and faces."""

from itertools import pairwise

import numpy as np

from .domains import Colour, Domain
from .shapes import (
    DARK,
    GLASS,
    RUBBER,
    Part,
    Shape,
    ellipse,
    paint,
    polygon,
    rectangle,
    shade,
)


def _wheel(a: float, radius: float) -> list[Part]:
    return [
        Part(ellipse(a, radius, radius, radius), RUBBER),
        Part(ellipse(a, radius, radius * 0.5, radius * 0.5), (150, 150, 154)),
    ]


def _tyres(half_width: float, height: float) -> list[Part]:
    """Return the two tyres below a vehicle's face."""
    edge = half_width - 0.08
    return [
        Part(rectangle(-edge, 0, -edge + 0.3, height), RUBBER),
        Part(rectangle(edge - 0.3, 0, edge, height), RUBBER),
    ]


def _lamps(half_width: float, y: float, size: float, colour: Colour) -> list[Part]:
    edge = half_width - 0.12
    return [
        Part(rectangle(-edge, y, -edge + size * 1.6, y + size), colour),
        Part(rectangle(edge - size * 1.6, y, edge, y + size), colour),
    ]


def _lamp_colour(rng: np.random.Generator) -> Colour:
    return (255, 236, 190) if rng.random() < 0.5 else (214, 36, 30)


def car(rng: np.random.Generator, domain: Domain) -> Shape:
    """Make a car: low body, cabin with two windows, two round wheels."""
    half = rng.uniform(1.85, 2.25)
    top = rng.uniform(1.38, 1.62)
    belt = 0.58 * top
    rear = rng.uniform(0.55, 0.98) * half
    colour = paint(rng, domain, (0.0, 0.9), (0.3, 1.0))
    roof = shade(colour, 0.85)
    hood = rng.uniform(0.45, 0.6) * half
    cabin = polygon(
        (-rear, belt), (-rear + 0.35, top), (hood - 0.75, top), (hood, belt)
    )
    middle = (hood - rear) / 2 - 0.1
    side = [
        Part(cabin, roof),
        Part(
            polygon(
                (-half, 0.28),
                (half, 0.28),
                (half, belt * 0.82),
                (hood, belt + 0.04),
                (-rear, belt + 0.04),
                (-half, belt * 0.95),
            ),
            colour,
        ),
        Part(
            polygon(
                (-rear + 0.2, belt + 0.04),
                (-rear + 0.45, top - 0.1),
                (middle - 0.06, top - 0.1),
                (middle - 0.06, belt + 0.04),
            ),
            GLASS,
        ),
        Part(
            polygon(
                (middle + 0.06, belt + 0.04),
                (middle + 0.06, top - 0.1),
                (hood - 0.8, top - 0.1),
                (hood - 0.18, belt + 0.04),
            ),
            GLASS,
        ),
        Part(rectangle(half - 0.22, belt * 0.6, half, belt * 0.78), (255, 236, 190)),
        Part(rectangle(-half, belt * 0.65, -half + 0.2, belt * 0.85), (214, 36, 30)),
        *_wheel(-0.62 * half, 0.35),
        *_wheel(0.64 * half, 0.35),
    ]
    wide = 0.9
    face = [
        *_tyres(wide, 0.35),
        Part(
            polygon(
                (-wide + 0.05, belt), (-0.62, top), (0.62, top), (wide - 0.05, belt)
            ),
            roof,
        ),
        Part(rectangle(-wide, 0.25, wide, belt), colour),
        Part(
            polygon((-0.7, belt), (-0.55, top - 0.1), (0.55, top - 0.1), (0.7, belt)),
            GLASS,
        ),
        Part(rectangle(-wide, 0.25, wide, 0.4), shade(colour, 0.55)),
        Part(rectangle(-0.25, 0.42, 0.25, 0.54), (230, 230, 220)),
        *_lamps(wide, belt - 0.25, 0.18, _lamp_colour(rng)),
    ]
    return Shape('car', side, face, length=2 * half, width=2 * wide)


def truck(rng: np.random.Generator, domain: Domain) -> Shape:
    """Make a truck: a coloured cab, a gap, and a taller pale cargo box."""
    half = rng.uniform(2.9, 3.9)
    top = rng.uniform(2.9, 3.5)
    cab = half - 1.7
    colour = paint(rng, domain, (0.5, 1.0), (0.4, 0.95))
    box = paint(rng, domain, (0.0, 0.2), (0.75, 1.0))
    side = [
        Part(rectangle(-half, 0.5, half, 0.95), DARK),
        Part(rectangle(-half, 0.9, cab - 0.25, top), box),
        Part(
            polygon(
                (cab, 0.5), (half, 0.5), (half, 1.5), (half - 0.3, 2.35), (cab, 2.35)
            ),
            colour,
        ),
        Part(
            polygon(
                (cab + 0.5, 1.45),
                (half - 0.08, 1.45),
                (half - 0.33, 2.15),
                (cab + 0.5, 2.15),
            ),
            GLASS,
        ),
    ]
    ribs = np.linspace(-half, cab - 0.25, 6)[1:-1]
    side += [
        Part(rectangle(rib - 0.05, 0.95, rib + 0.05, top), shade(box, 0.75))
        for rib in ribs
    ]
    if rng.random() < 0.6:
        logo = paint(rng, domain, (0.6, 1.0), (0.4, 0.9))
        side.append(
            Part(rectangle(-half * 0.75, 1.5, cab - half * 0.45, top - 0.7), logo)
        )
    for a in (-half + 0.6, -half + 1.6, half - 0.8):
        side += _wheel(a, 0.48)
    wide = 1.2
    face = [
        *_tyres(wide, 0.5),
        Part(rectangle(-wide, 0.45, wide, 0.95), DARK),
        Part(rectangle(-wide, 0.9, wide, top), box),
        Part(rectangle(-0.05, 0.9, 0.05, top), shade(box, 0.55)),
        Part(rectangle(-wide, top - 0.12, wide, top), shade(box, 0.7)),
        Part(rectangle(-0.3, 1.3, -0.15, top - 0.4), shade(box, 0.6)),
        Part(rectangle(0.15, 1.3, 0.3, top - 0.4), shade(box, 0.6)),
        *_lamps(wide, 0.6, 0.2, (214, 36, 30)),
    ]
    return Shape('truck', side, face, length=2 * half, width=2 * wide)


def bus(rng: np.random.Generator, domain: Domain) -> Shape:
    """Make a bus: a tall bright box with a row of windows and two wheels."""
    half = rng.uniform(4.0, 5.2)
    top = rng.uniform(2.85, 3.25)
    colour = paint(rng, domain, (0.75, 1.0), (0.7, 0.95), (0.0, 0.04, 0.13, 0.33, 0.58))
    side = [
        Part(
            polygon(
                (-half, 0.3),
                (half, 0.3),
                (half, top - 0.35),
                (half - 0.25, top),
                (-half + 0.2, top),
                (-half, top - 0.2),
            ),
            colour,
        ),
        Part(rectangle(-half, 0.3, half, 0.6), shade(colour, 0.6)),
    ]
    count = int(rng.integers(6, 9))
    edges = np.linspace(-half + 0.25, half - 0.15, count + 1)
    side += [
        Part(rectangle(left + 0.08, 1.4, right - 0.08, top - 0.45), GLASS)
        for left, right in pairwise(edges)
    ]
    side.append(Part(rectangle(edges[-2] + 0.1, 0.45, edges[-1] - 0.1, 1.4), GLASS))
    side += [*_wheel(-0.55 * half, 0.5), *_wheel(0.6 * half, 0.5)]
    wide = 1.27
    face = [
        *_tyres(wide, 0.4),
        Part(rectangle(-wide, 0.3, wide, top), colour),
        Part(rectangle(-wide + 0.12, 1.3, wide - 0.12, top - 0.5), GLASS),
        Part(rectangle(-0.8, top - 0.4, 0.8, top - 0.12), (250, 190, 60)),
        Part(rectangle(-wide, 0.3, wide, 0.55), shade(colour, 0.6)),
        *_lamps(wide, 0.75, 0.25, _lamp_colour(rng)),
    ]
    return Shape('bus', side, face, length=2 * half, width=2 * wide)


def train(rng: np.random.Generator, domain: Domain) -> Shape:
    """Make a train: a very long pale box, window band and stripes, no wheels."""
    half = rng.uniform(6.5, 9.0)
    top = rng.uniform(3.4, 3.8)
    body = paint(rng, domain, (0.0, 0.12), (0.8, 1.0))
    stripe = paint(rng, domain, (0.8, 1.0), (0.5, 0.85), (0.0, 0.36, 0.6, 0.78))
    side = [
        Part(rectangle(-half + 0.2, 0.0, half - 0.9, 0.45), DARK),
        Part(
            polygon(
                (-half, 0.35),
                (half, 0.35),
                (half, 1.3),
                (half - 1.1, top),
                (-half, top),
            ),
            body,
        ),
        Part(rectangle(-half, top - 0.28, half - 1.0, top + 0.02), (72, 74, 78)),
        Part(rectangle(-half, 0.35, half, 0.8), stripe),
        Part(rectangle(-half, 1.15, half - 0.1, 1.4), stripe),
        Part(rectangle(-half + 0.3, 1.75, half - 1.5, top - 0.6), DARK),
        Part(
            polygon(
                (half - 1.2, 1.75),
                (half - 0.25, 1.75),
                (half - 0.85, top - 0.5),
                (half - 1.2, top - 0.5),
            ),
            GLASS,
        ),
    ]
    side += [
        Part(rectangle(door - 0.45, 0.5, door + 0.45, top - 0.55), shade(stripe, 0.85))
        for door in np.linspace(-half + 2.0, half - 4.0, 3)
    ]
    wide = 1.3
    face = [
        Part(rectangle(-1.0, 0.0, 1.0, 0.45), DARK),
        Part(
            polygon(
                (-wide, 0.3), (wide, 0.3), (wide, 2.4), (0.85, top), (-0.85, top),
                (-wide, 2.4),
            ),
            body,
        ),
        Part(rectangle(-wide, 0.35, wide, 1.0), stripe),
        Part(
            polygon((-1.1, 1.7), (1.1, 1.7), (0.75, top - 0.45), (-0.75, top - 0.45)),
            DARK,
        ),
        Part(rectangle(-wide, 1.2, wide, 1.4), stripe),
        *_lamps(wide, 0.55, 0.28, (255, 236, 190)),
    ]  # fmt: skip
    return Shape('train', side, face, length=2 * half, width=2 * wide)
