"""The domains of SynthScapes: all numbers that differ between them.

A detector trained on ``source`` should lose a good part of its mask AP on ``target``,
but not all: tune these numbers. ``world`` draws them anew for each image, never as
``target`` has them: what is learnt there is general, and knows nothing of ``target``.
The drawing code has no numbers for a domain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Domain:
    """Palette, light, camera and object statistics of a domain.

    Pairs are the bounds of a uniform distribution, drawn once per image; colours
    are RGB in 0..255.

    Attributes:
        cities: City names by split; an image's city follows from its index.
        group_counts: Fewest and most groups of objects in an image.
        group_weights: Relative frequency of each kind of group, by class name.
        crowd: Probability that a group has several members side by side.
        crowd_size: Fewest and most members of a crowd.
        crowd_gap: Distance of crowd neighbours as a share of their width; below
            one they overlap.
        distance: Factor on the distances at which groups are placed.
        along: Probability that a vehicle is seen along the street, not across it.
        lit_windows: Share of the buildings' windows with the light on.
        paint: Saturation factor and value factor of vehicles and clothes.
        gain: Exposure.
        cast: Factor on red, green and blue.
        gradient: Strength of the illumination's fall-off across the image.
        contrast: Factor on the distance from mid-grey.
        haze: Distance in metres at which 63 % of an object's light is lost.
        haze_colour: Colour that replaces the lost light.
        texture: Standard deviation of the surface texture, relative.
        blur: Standard deviation of the blur in pixels per 256 rows.
        noise: Standard deviation of the sensor noise in grey levels.
        rain: Probability of rain.
        drawn: Whether each image has a look of its own, by :func:`draw_look`.
    """

    cities: Mapping[str, tuple[str, ...]]
    sky: tuple[Colour, Colour]
    road: Colour
    sidewalk: Colour
    marking: Colour
    buildings: tuple[Colour, ...]
    vegetation: tuple[Colour, ...]
    group_counts: tuple[int, int]
    group_weights: Mapping[str, float]
    crowd: float
    crowd_size: tuple[int, int]
    crowd_gap: tuple[float, float]
    distance: float
    along: float
    lit_windows: float
    paint: tuple[float, float]
    gain: tuple[float, float]
    cast: tuple[float, float, float]
    gradient: tuple[float, float]
    contrast: float
    haze: tuple[float, float]
    haze_colour: Colour
    texture: float
    blur: tuple[float, float]
    noise: tuple[float, float]
    rain: float
    drawn: bool = False


SOURCE = Domain(
    cities={
        'train': ('sourceville', 'sourceburg', 'sourceford', 'sourcehausen'),
        'val': ('sourcemouth', 'sourcefeld'),
        'test': ('sourcedale', 'sourcestadt'),
    },
    sky=((92, 152, 226), (206, 226, 246)),
    road=(122, 120, 122),
    sidewalk=(186, 174, 164),
    marking=(240, 240, 236),
    buildings=(
        (202, 160, 126),
        (188, 118, 96),
        (222, 204, 172),
        (176, 172, 168),
        (214, 182, 116),
    ),
    vegetation=((72, 128, 54), (96, 146, 66), (58, 110, 60)),
    group_counts=(2, 4),
    group_weights={
        'person': 0.24,
        'car': 0.28,
        'bicycle': 0.14,
        'motorcycle': 0.12,
        'truck': 0.10,
        'bus': 0.10,
        'train': 0.08,
    },
    crowd=0.2,
    crowd_size=(2, 3),
    crowd_gap=(0.8, 1.25),
    distance=0.7,
    along=0.35,
    lit_windows=0.0,
    paint=(1.0, 1.0),
    gain=(0.95, 1.1),
    cast=(1.03, 1.0, 0.95),
    gradient=(0.0, 0.12),
    contrast=1.05,
    haze=(400.0, 900.0),
    haze_colour=(206, 222, 240),
    texture=0.05,
    blur=(0.5, 0.8),
    noise=(2.0, 5.0),
    rain=0.0,
)

TARGET = Domain(
    cities={
        'train': ('targetton', 'targetbruck', 'targetham', 'targetlingen'),
        'val': ('targetheim', 'targetwick'),
        'test': ('targethurst', 'targetau'),
    },
    sky=((52, 56, 92), (196, 132, 104)),
    road=(74, 76, 88),
    sidewalk=(112, 108, 116),
    marking=(190, 186, 170),
    buildings=(
        (96, 92, 108),
        (122, 104, 100),
        (84, 96, 112),
        (140, 126, 116),
        (104, 84, 82),
    ),
    vegetation=((44, 66, 48), (70, 78, 44), (92, 74, 40)),
    group_counts=(2, 4),
    group_weights={
        'person': 0.26,
        'car': 0.22,
        'bicycle': 0.15,
        'motorcycle': 0.12,
        'truck': 0.09,
        'bus': 0.09,
        'train': 0.07,
    },
    crowd=0.35,
    crowd_size=(2, 3),
    crowd_gap=(0.65, 1.1),
    distance=0.5,
    along=0.45,
    lit_windows=0.3,
    paint=(0.75, 0.8),
    gain=(0.7, 1.0),
    cast=(1.06, 0.95, 1.0),
    gradient=(0.25, 0.55),
    contrast=0.9,
    haze=(70.0, 160.0),
    haze_colour=(150, 124, 124),
    texture=0.1,
    blur=(0.7, 1.3),
    noise=(6.0, 12.0),
    rain=0.5,
)

WORLD = replace(
    SOURCE,
    cities={'train': ('worldville', 'worldburg'), 'val': ('worldmouth',)},
    drawn=True,
)

DOMAINS: Mapping[str, Domain] = {'source': SOURCE, 'target': TARGET, 'world': WORLD}

# Bounds for the numbers of a drawn look. What TARGET has is left out.
_BOUNDS = {
    'crowd': (0.0, 0.6),
    'distance': (0.4, 1.0),
    'along': (0.2, 0.7),
    'lit_windows': (0.0, 0.8),
    'gain': (0.45, 1.35),
    'gradient': (0.0, 0.8),
    'contrast': (0.7, 1.25),
    'haze': (40.0, 900.0),
    'texture': (0.02, 0.2),
    'blur': (0.4, 2.0),
    'noise': (1.0, 18.0),
}
# A drawn colour is at least so far from TARGET's colour of the same thing.
COLOUR_GAP = 40.0


def draw_look(rng: np.random.Generator) -> Domain:
    """Draw the look of one image of ``world``.

    No number lies where TARGET's lie, and no colour near TARGET's. A number that
    TARGET fixes is kept a tenth of its range away from it.
    """
    numbers: dict[str, Any] = {}
    for name, (low, high) in _BOUNDS.items():
        held = getattr(TARGET, name)
        if isinstance(held, tuple):
            value = _outside(rng, low, high, *held)
            numbers[name] = (value, value)
        else:
            gap = 0.1 * (high - low)
            numbers[name] = _outside(rng, low, high, held - gap, held + gap)
    kinds = list(SOURCE.group_weights)
    weights = rng.dirichlet(np.ones(len(kinds)))
    count = len(TARGET.buildings)
    return replace(
        WORLD,
        **numbers,
        sky=(_colour(rng, TARGET.sky[0]), _colour(rng, TARGET.sky[1])),
        road=_colour(rng, TARGET.road),
        sidewalk=_colour(rng, TARGET.sidewalk),
        marking=_colour(rng, TARGET.marking),
        buildings=tuple(_colour(rng, *TARGET.buildings) for _ in range(count)),
        vegetation=tuple(_colour(rng, *TARGET.vegetation) for _ in range(3)),
        haze_colour=_colour(rng, TARGET.haze_colour),
        group_weights=dict(zip(kinds, weights.tolist(), strict=True)),
        paint=(float(rng.uniform(0.8, 1.3)), float(rng.uniform(0.85, 1.3))),
        cast=tuple(rng.uniform(0.85, 1.15, 3).tolist()),
    )


def _outside(
    rng: np.random.Generator, low: float, high: float, first: float, last: float
) -> float:
    """Draw from [low, high] without [first, last]."""
    below, above = max(first - low, 0.0), max(high - last, 0.0)
    place = rng.uniform(0, below + above)
    return float(low + place if place < below else last + place - below)


def _colour(rng: np.random.Generator, *held: Colour) -> Colour:
    """Draw a colour that differs from some colours."""
    while True:
        colour = rng.integers(20, 250, 3)
        distance = np.linalg.norm(np.array(held) - colour, axis=-1).min()
        if distance >= COLOUR_GAP:
            return tuple(colour.tolist())
