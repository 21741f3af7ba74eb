"""Shapes of persons, riders, bicycles and motorcycles."""

import numpy as np

from .domains import Colour, Domain
from .shapes import (
    DARK,
    GLASS,
    RUBBER,
    Part,
    Shape,
    ellipse,
    limb,
    paint,
    polygon,
    rectangle,
    shade,
)


def bicycle(rng: np.random.Generator, domain: Domain) -> Shape:
    """Make a bicycle: two thin open rings, and a frame of thin tubes."""
    colour = paint(rng, domain, (0.5, 1.0), (0.5, 1.0))
    radius = 0.36
    rear, front = (-0.53, radius), (0.53, radius)
    parts: list[Part] = []
    for a, y in (rear, front):
        ring = ellipse(a, y, radius, radius)
        hole = ellipse(a, y, radius - 0.075, radius - 0.075)
        # A ring as one polygon: out along the rim, back along the hole.
        rim = np.concatenate([ring, ring[:1], hole[:1], hole[:0:-1], hole[:1]])
        parts += [Part(ring, None), Part(rim, RUBBER)]
        parts.append(Part(ellipse(a, y, 0.07, 0.07), (150, 150, 154)))
    crank, seat, bars = (-0.05, 0.34), (-0.2, 0.9), (0.42, 0.95)
    parts += [
        Part(polygon(rear, seat, bars, front, crank), None),
        *(
            Part(limb(start, end, 0.075, 0.075), colour)
            for start, end in (
                (rear, crank),
                (rear, (-0.17, 0.78)),
                (crank, (-0.21, 0.95)),
                (crank, (0.4, 0.78)),
                ((-0.17, 0.78), (0.39, 0.82)),
                (front, (0.38, 1.02)),
            )
        ),
        Part(rectangle(-0.36, 0.93, -0.08, 1.01), DARK),
        Part(limb((0.28, 1.02), (0.5, 1.06), 0.08, 0.08), DARK),
    ]
    return Shape('bicycle', parts, length=1.78, width=1.78)


def motorcycle(rng: np.random.Generator, domain: Domain) -> Shape:
    """Make a motorcycle: two thick solid wheels, engine, tank, seat, windscreen."""
    colour = paint(rng, domain, (0.6, 1.0), (0.45, 1.0))
    steel: Colour = (128, 130, 134)
    parts = [
        Part(ellipse(-0.72, 0.36, 0.36, 0.36), RUBBER),
        Part(ellipse(0.74, 0.36, 0.36, 0.36), RUBBER),
        Part(ellipse(-0.72, 0.36, 0.15, 0.15), steel),
        Part(ellipse(0.74, 0.36, 0.15, 0.15), steel),
        Part(polygon((-0.45, 0.2), (0.35, 0.2), (0.42, 0.7), (-0.5, 0.7)), DARK),
        Part(ellipse(0.0, 0.42, 0.24, 0.2), steel),
        Part(limb((0.74, 0.36), (0.45, 1.05), 0.12, 0.12), steel),
        Part(limb((-0.1, 0.24), (-1.0, 0.4), 0.1, 0.14), steel),
        Part(
            polygon(
                (-0.2, 0.68), (0.5, 0.6), (0.66, 0.85), (0.4, 1.05), (-0.05, 0.98)
            ),
            colour,
        ),
        Part(
            polygon(
                (-1.02, 0.84), (-0.6, 0.66), (0.0, 0.72), (-0.05, 0.92), (-0.6, 0.86),
                (-1.0, 0.98),
            ),
            DARK,
        ),
        Part(polygon((-1.0, 0.7), (-0.55, 0.62), (-0.5, 0.74), (-1.02, 0.84)), colour),
        Part(polygon((0.4, 1.0), (0.62, 0.9), (0.5, 1.3), (0.4, 1.3)), GLASS),
        Part(limb((0.2, 1.06), (0.46, 1.12), 0.08, 0.08), DARK),
        Part(ellipse(0.66, 0.88, 0.09, 0.09), (255, 236, 190)),
    ]  # fmt: skip
    return Shape('motorcycle', parts, length=2.1, width=2.1)


def _skin(rng: np.random.Generator) -> Colour:
    return shade((236, 192, 158), rng.uniform(0.45, 1.0))


def person(rng: np.random.Generator, domain: Domain) -> Shape:
    """Make an upright person: head, torso, arms and striding legs."""
    tall = rng.uniform(1.55, 1.92) if rng.random() < 0.9 else rng.uniform(1.0, 1.3)
    stride = rng.uniform(0.02, 0.24)
    swing = rng.uniform(0.03, 0.2)
    lean = rng.normal(0, 0.015)
    coat = paint(rng, domain, (0.2, 1.0), (0.3, 1.0))
    trousers = paint(rng, domain, (0.1, 0.6), (0.15, 0.55))
    skin = _skin(rng)
    hair = paint(rng, domain, (0.3, 0.7), (0.1, 0.5), (0.05, 0.09))
    wide = rng.uniform(0.12, 0.15)
    parts = [
        Part(limb((wide - 0.03 + lean, 0.8), (wide + swing / 2, 0.47), 0.07, 0.055),
             shade(coat, 0.75)),
        Part(limb((-0.035, 0.52), (-stride / 2 - 0.02, 0.03), 0.12, 0.075),
             shade(trousers, 0.75)),
        Part(limb((0.035, 0.52), (stride / 2 + 0.02, 0.03), 0.12, 0.075), trousers),
        Part(rectangle(-stride / 2 - 0.06, 0, -stride / 2 + 0.05, 0.035), DARK),
        Part(rectangle(stride / 2 - 0.02, 0, stride / 2 + 0.09, 0.035), DARK),
        Part(
            polygon(
                (-0.09, 0.47), (0.09, 0.47), (wide + lean, 0.8), (0.05 + lean, 0.85),
                (-0.05 + lean, 0.85), (-wide + lean, 0.8),
            ),
            coat,
        ),
        Part(limb((-wide + 0.03 + lean, 0.8), (-wide - swing / 2, 0.47), 0.07, 0.055),
             shade(coat, 0.85)),
        Part(rectangle(-0.025 + lean, 0.83, 0.025 + lean, 0.89), shade(skin, 0.85)),
        Part(ellipse(lean, 0.925, 0.062, 0.075), hair),
        Part(ellipse(0.012 + lean, 0.912, 0.05, 0.058), skin),
    ]  # fmt: skip
    parts = [Part(part.points * tall, part.colour) for part in parts]
    return Shape('person', parts, length=0.5, width=0.34 * tall)


def rider(rng: np.random.Generator, domain: Domain, mount: str) -> Shape:
    """Make a person on a bicycle or motorcycle, bent forward, one leg bent."""
    coat = paint(rng, domain, (0.3, 1.0), (0.35, 1.0))
    trousers = paint(rng, domain, (0.1, 0.6), (0.15, 0.55))
    helmet = paint(rng, domain, (0.3, 1.0), (0.4, 1.0))
    skin = _skin(rng)
    if mount == 'bicycle':
        hip, neck, hand = (-0.2, 1.0), (0.16, 1.52), (0.4, 1.08)
        knee, foot, head = (0.18, 0.74), (0.0, 0.28), 0.125
    else:
        hip, neck, hand = (-0.35, 0.92), (-0.05, 1.46), (0.32, 1.1)
        knee, foot, head = (0.12, 0.78), (-0.1, 0.32), 0.15
    shoulder = (neck[0] - 0.03, neck[1] - 0.07)
    crown = (neck[0] + 0.05, neck[1] + 0.08)
    parts = [
        Part(limb(hip, knee, 0.22, 0.16), trousers),
        Part(limb(knee, foot, 0.16, 0.11), shade(trousers, 0.8)),
        Part(rectangle(foot[0] - 0.08, foot[1] - 0.1, foot[0] + 0.18, foot[1]), DARK),
        Part(limb(hip, neck, 0.3, 0.36), coat),
        Part(limb(shoulder, hand, 0.13, 0.09), shade(coat, 0.75)),
        Part(ellipse(*crown, head * 0.85, head), skin),
        Part(ellipse(crown[0] - 0.01, crown[1] + 0.05, head, head * 0.8), helmet),
    ]
    return Shape('rider', parts, length=0.8, width=0.9)
