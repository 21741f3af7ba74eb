"""Effects of light, weather and sensor on a painted scene."""

import cv2
import numpy as np
import numpy.typing as npt

from .domains import Domain

Image = npt.NDArray[np.float32]
BYTE_PAIR_STD = 104.5  # standard deviation of the sum of two uniform bytes


def apply_effects(
    rng: np.random.Generator,
    domain: Domain,
    painted: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    """Apply texture, haze, illumination, rain, blur and noise, in this order.

    Args:
        rng: Source of all randomness.
        domain: Strengths of the effects.
        painted: Surface colours, RGB, uint8, shape (H, W, 3).
        depth: Metres, infinite in the sky, shape (H, W).

    Returns:
        The photograph, RGB, uint8, shape (H, W, 3).
    """
    rows, columns = painted.shape[:2]
    grain = _field(rng, (rows, columns), 24) + 0.7 * _field(rng, (rows, columns), 100)
    clear = np.exp(np.minimum(depth, 150.0) / np.float32(-rng.uniform(*domain.haze)))
    angle = rng.uniform(0, 2 * np.pi)
    u = np.linspace(-1, 1, columns, dtype=np.float32)[None] * np.float32(np.cos(angle))
    v = np.linspace(-1, 1, rows, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    fall = np.float32(rng.uniform(*domain.gradient) / 1.4)
    light = np.float32(rng.uniform(*domain.gain) * domain.contrast) * (
        1 + fall * (u + v)
    )
    offset: Image | float = 110.0 * (1 - domain.contrast)
    if rng.random() < domain.rain:
        offset = offset + _rain(rng, (rows, columns))
    sigma = max(0.3, rng.uniform(*domain.blur) * rows / 256)
    strength = np.float32(rng.uniform(*domain.noise))
    # The sum of two bytes: near enough to a Gaussian, and six times as fast.
    pairs = rng.integers(0, 256, (3, 2, rows, columns), dtype=np.uint8)
    strength /= np.float32(BYTE_PAIR_STD)

    # All of it is linear in the paint: one factor and one offset per pixel.
    factor = light * clear * (1 + np.float32(domain.texture) * grain)
    haze = light * (1 - clear)
    channels = []
    for i, channel in enumerate(cv2.split(painted)):
        photo = channel * (factor * np.float32(domain.cast[i]))
        photo += haze * np.float32(domain.cast[i] * domain.haze_colour[i]) + offset
        photo = cv2.GaussianBlur(photo, (0, 0), sigma)
        grains = cv2.add(pairs[i, 0], pairs[i, 1], dtype=cv2.CV_32F) - np.float32(255)
        photo += grains * strength
        channels.append(np.clip(photo, 0, 255).astype(np.uint8))
    return np.stack(channels, axis=-1)


def _field(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Image:
    """Draw smooth noise of unit variance at its nodes, ``cells`` of them across."""
    coarse = rng.standard_normal((max(2, cells // 2), cells), dtype=np.float32)
    fine = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, np.float32)


def _rain(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Draw slanted bright streaks, in grey levels."""
    rows, columns = size
    streaks = np.zeros(size, np.uint8)
    slant = rng.uniform(-0.3, 0.3)
    count = int(rng.integers(60, 160))
    starts = rng.uniform(0, (columns, rows), (count, 2))
    ends = starts + rng.uniform(0.03, 0.1, (count, 1)) * rows * (slant, 1.0)
    shift = 4
    lines = np.rint(np.stack([starts, ends], axis=1) * (1 << shift)).astype(np.int32)
    for grey in (15, 25, 35):
        some = list(lines[grey % 3 :: 3])
        cv2.polylines(streaks, some, False, grey, 1, cv2.LINE_AA, shift)
    return streaks.astype(np.float32)
