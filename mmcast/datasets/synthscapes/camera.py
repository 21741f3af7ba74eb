"""A pinhole camera above flat ground, looking along the street.

World coordinates in metres: X to the right, Y up from the ground, Z ahead.
"""

from dataclasses import dataclass

import numpy as np

from .shapes import Points

BASELINE = 0.209313  # metres, as in Cityscapes' stereo camera


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels, height above the ground in metres."""

    focal: float
    u0: float
    v0: float
    height: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int]) -> 'Camera':
        """Draw a camera for images of ``size`` (height, width).

        The focal length follows Cityscapes' (2262 pixels at 2048 x 1024). It depends
        on the smaller side, so that objects fill the same share of any image.
        """
        rows, columns = size
        return cls(
            focal=1.1 * min(columns, 2 * rows),
            u0=columns * rng.uniform(0.45, 0.55),
            v0=rows * rng.uniform(0.36, 0.46),
            height=rng.uniform(1.5, 2.1),
        )

    def project(self, x: Points | float, y: Points, z: Points | float) -> Points:
        """Return pixel coordinates ``(u, v)``, shape (N, 2), of N points ahead."""
        scale = self.focal / z
        pixels = np.empty((len(y), 2))
        pixels[:, 0] = self.u0 + x * scale
        pixels[:, 1] = self.v0 + (self.height - y) * scale
        return pixels

    def to_json(self) -> dict[str, dict[str, float]]:
        """Return the content of Cityscapes' ``*_camera.json``."""
        return {
            'extrinsic': {
                'baseline': BASELINE,
                'pitch': 0.0,
                'roll': 0.0,
                'x': 0.0,
                'y': 0.0,
                'yaw': 0.0,
                'z': self.height,
            },
            'intrinsic': {
                'fx': self.focal,
                'fy': self.focal,
                'u0': self.u0,
                'v0': self.v0,
            },
        }
