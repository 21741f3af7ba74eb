"""Masks that a training pipeline resizes, crops and flips without touching pixels."""

from typing import Any

import mmcv
import numpy as np
from mmdet.structures.mask import BitmapMasks
from pycocotools.mask import decode


class WindowedMasks(BitmapMasks):
    """mmdet's ``BitmapMasks`` that remember where each row and column comes from.

    A weak view enlarges an image up to twice and then keeps a small crop of it. Here
    resizing, cropping and flipping only change two lists of indices. Pixels are read
    once, when they are asked for, and those of the crop alone. The result is that of
    ``BitmapMasks`` with nearest-neighbour resizing.

    Args:
        masks: n masks, each uint8 (H, W) or a compressed COCO RLE, which is decoded
            only if its pixels are asked for.
        height: H.
        width: W.
        rows: Row of ``masks`` that each row of the result shows; None for all.
        columns: The same for columns.
    """

    def __init__(
        self,
        masks: Any,
        height: int,
        width: int,
        rows: np.ndarray | None = None,
        columns: np.ndarray | None = None,
    ) -> None:
        self._source = list(masks)
        self._rows = np.arange(height) if rows is None else rows
        self._columns = np.arange(width) if columns is None else columns
        self._read: np.ndarray | None = None

    @property
    def height(self) -> int:
        """Height of the result in pixels."""
        return len(self._rows)

    @property
    def width(self) -> int:
        """Width of the result in pixels."""
        return len(self._columns)

    @property
    def masks(self) -> np.ndarray:
        """The pixels, uint8 (n, height, width)."""
        if self._read is None:
            shape = (len(self._source), self.height, self.width)
            window = np.empty(shape, np.uint8)
            for out, mask in zip(window, self._source, strict=True):
                pixels = mask if isinstance(mask, np.ndarray) else decode(mask)
                # Columns first, since they are contiguous in what COCO decodes.
                out[:] = pixels.T[self._columns][:, self._rows].T
            # The window is the source from now on, since it may be written to.
            self.masks = window
            return window
        return self._read

    @masks.setter
    def masks(self, pixels: np.ndarray) -> None:
        self._read, self._source = pixels, list(pixels)
        self._rows, self._columns = (
            np.arange(pixels.shape[1]),
            np.arange(pixels.shape[2]),
        )

    def __reduce__(self) -> tuple:
        """Become plain ``BitmapMasks`` in a copy and in another process.

        Whole masks that nobody has looked at stay encoded: in validation nobody will.
        """
        if self._read is None and self._are_whole():
            return WindowedMasks, (self._source, self.height, self.width)
        return BitmapMasks, (self.masks, self.height, self.width)

    def _are_whole(self) -> bool:
        """Say whether all masks are encoded, and shown as they are."""
        places = zip((self._rows, self._columns), (0, 1), strict=True)
        return all(isinstance(mask, dict) for mask in self._source) and all(
            np.array_equal(shown, np.arange(mask['size'][axis]))
            for mask in self._source[:1]
            for shown, axis in places
        )

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self._source)

    def __getitem__(self, index: Any) -> 'WindowedMasks':
        """Return some masks, by an integer, a slice, integers or bools."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        source = [self._source[i] for i in chosen]
        return self._window(self._rows, self._columns, source)

    def resize(
        self, out_shape: tuple[int, int], interpolation: str = 'nearest'
    ) -> BitmapMasks:
        """Resize to (height, width)."""
        if interpolation != 'nearest':
            return super().resize(out_shape, interpolation)
        rows = self._rows[_nearest(self.height, out_shape[0])]
        return self._window(rows, self._columns[_nearest(self.width, out_shape[1])])

    def rescale(self, scale: Any, interpolation: str = 'nearest') -> BitmapMasks:
        """Resize as far as ``scale`` allows, see ``mmcv.rescale_size``."""
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self.resize((height, width), interpolation)

    def crop(self, bbox: np.ndarray) -> 'WindowedMasks':
        """Keep (x1, y1, x2, y2), at least one pixel."""
        x1, x2 = np.clip(bbox[0::2], 0, self.width)
        y1, y2 = np.clip(bbox[1::2], 0, self.height)
        return self._window(
            self._rows[y1 : y1 + max(y2 - y1, 1)],
            self._columns[x1 : x1 + max(x2 - x1, 1)],
        )

    def flip(self, flip_direction: str = 'horizontal') -> 'WindowedMasks':
        """Flip ``'horizontal'``, ``'vertical'`` or ``'diagonal'`` (both)."""
        rows, columns = self._rows, self._columns
        if flip_direction != 'horizontal':
            rows = rows[::-1]
        if flip_direction != 'vertical':
            columns = columns[::-1]
        return self._window(rows, columns)

    def _window(
        self, rows: np.ndarray, columns: np.ndarray, source: list | None = None
    ) -> 'WindowedMasks':
        source = self._source if source is None else source
        return WindowedMasks(source, len(rows), len(columns), rows, columns)


def _nearest(side: int, to: int) -> np.ndarray:
    """Return the pixels that OpenCV's nearest-neighbour resizing takes, (to,) int64."""
    step = 1.0 / (to / side)
    return np.minimum(np.floor(np.arange(to) * step).astype(np.int64), side - 1)
