"""Draw semantic labels and metric depth, ground truth and prediction, in one picture.

mmdet's visualizer draws labels, but no depth. All pictures here are RGB.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import mmcv
import numpy as np
import numpy.typing as npt
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import get_palette
from mmengine.dist import master_only

Picture = npt.NDArray[np.uint8]

IGNORED = (128, 128, 128)
# A tile is at least so wide: on a narrower one text is not readable.
MIN_WIDTH = 480
# The range of TURBO between its two dark ends: they look like no measurement.
NEAR, FAR = 240, 20
# Share of the depths beyond either end of the scale: a few wrong ones are far away.
OUTLIERS = 0.01
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Maps(NamedTuple):
    """What to draw in one row: labels and depth (H, W); None if there is none."""

    title: str
    labels: npt.NDArray[np.int32] | None
    depth: npt.NDArray[np.float32] | None


@VISUALIZERS.register_module()
class DepthSegVisualizer(DetLocalVisualizer):
    """Draw semantic labels and metric depth next to the image.

    The first row has the image, the legend and the scale of depth. Below are a row for
    the ground truth and a row for the prediction, as far as the data sample has them:
    the fields are ``gt_sem_seg``, ``gt_depth``, ``pred_sem_seg``, ``pred_depth``. Truth
    and prediction share one scale of depth. Instances are not drawn.

    The arguments are those of mmdet's ``DetLocalVisualizer``. ``alpha`` is the opacity
    of the labels over the image.
    """

    @master_only
    def add_datasample(
        self,
        name: str,
        image: npt.NDArray[Any],
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draw a data sample; show it, and write it to a file or to all backends.

        Args:
            name: Name of the picture in the backends and of the window.
            image: RGB in 0 to 255, (H, W, 3).
            data_sample: Maps of another size are resized to the image. Without any map
                the picture is the image.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
            show: Whether to show the picture in a window.
            wait_time: Seconds that the window stays; 0 is for ever.
            out_file: File for the picture, instead of the backends.
            pred_score_thr: Has no effect; mmdet's hook passes it.
            step: Iteration, which the backends record.

        Raises:
            ValueError: The palette is shorter than the list of classes.
        """
        image = image.clip(0, 255).astype(np.uint8)
        rows = []
        if data_sample is not None:
            if draw_gt:
                rows.append(_maps(data_sample, 'truth', 'gt'))
            if draw_pred:
                rows.append(_maps(data_sample, 'prediction', 'pred'))
            rows = [r for r in rows if r.labels is not None or r.depth is not None]
        drawn = image
        if rows:
            drawn = draw_panel(image, rows, self.dataset_meta, float(self.alpha))
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)
        else:
            self.add_image(name, drawn, step)


def class_palette(dataset_meta: Mapping[str, Any]) -> Picture:
    """Return one colour a class, uint8 (classes, 3).

    Args:
        dataset_meta: ``palette`` as mmdet takes it: a list of colours, or a name;
            without it the colours are random and always the same. ``classes`` are the
            names.

    Raises:
        ValueError: The palette is shorter than the list of classes.
    """
    palette = dataset_meta.get('palette')
    classes = dataset_meta.get('classes') or ()
    if palette is None or isinstance(palette, str):
        palette = get_palette(palette, len(classes) or 255)
    if len(palette) < len(classes):
        raise ValueError(
            f'the palette has {len(palette)} colours for {len(classes)} classes: give '
            "the data set's metainfo one colour a class"
        )
    return np.array(palette, np.uint8).reshape(-1, 3)


def colour_labels(
    labels: npt.NDArray[np.integer],
    palette: npt.NDArray[np.integer] | Sequence[Sequence[int]],
) -> Picture:
    """Colour labels by class.

    Args:
        labels: Class indices, any integer type (H, W).
        palette: RGB of each class (classes, 3).

    Returns:
        RGB, uint8 (H, W, 3). A label without a colour, such as 255, is grey.
    """
    table = np.array([*palette, IGNORED], np.uint8)
    known = (labels >= 0) & (labels < len(palette))
    return table[np.where(known, labels, len(palette))]


def colour_depth(depth: npt.NDArray[np.floating], low: float, high: float) -> Picture:
    """Colour depth on a logarithmic scale, from red (near) to blue (far).

    Args:
        depth: Metres (H, W). 0, negative and infinite values and NaN are no
            measurement.
        low: Depth of the scale's near end, in metres; nearer pixels have its colour.
        high: Depth of its far end; the same for farther pixels.

    Returns:
        RGB, uint8 (H, W, 3); black where there is no measurement.

    Raises:
        ValueError: Not ``0 < low < high``.
    """
    if not 0 < low < high < math.inf:
        raise ValueError(f'a depth scale from {low} to {high} m: give 0 < low < high')
    found = _measured(depth)
    position = np.log(np.where(found, depth, low) / low) / math.log(high / low)
    index = NEAR + (FAR - NEAR) * position.clip(0, 1)
    turbo = cv2.applyColorMap(index.round().astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.where(found[..., None], turbo[..., ::-1], 0).astype(np.uint8)


def depth_range(depth: npt.NDArray[np.floating]) -> tuple[float, float] | None:
    """Return the ends of a scale that suits a depth map, in metres, ``low < high``.

    Args:
        depth: Metres, any shape; 0 is no measurement.

    Returns:
        The depths that 1 % and 99 % of the measurements do not exceed; None without
        any measurement.
    """
    values = depth[_measured(depth)]
    if not len(values):
        return None
    low, high = np.quantile(values, [OUTLIERS, 1 - OUTLIERS]).tolist()
    return (low, high) if high > 1.1 * low else (low / 1.1, high * 1.1)


def depth_bar(low: float, high: float, width: int) -> Picture:
    """Draw the scale of :func:`colour_depth`, near on the left, labelled in metres.

    Args:
        low: Depth of the near end, in metres.
        high: Depth of the far end.
        width: Width in pixels. The text grows with it.

    Returns:
        RGB, uint8 (height, width, 3), on white.
    """
    line = _line(width)
    margin, tick = 2 * line, line // 3
    ramp = np.geomspace(low, high, width - 2 * margin)[None].repeat(line, 0)
    bar = np.full((2 * line + tick, width, 3), 255, np.uint8)
    bar[:line, margin:-margin] = colour_depth(ramp, low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    ticks = [value for value in ticks if low <= value <= high]
    if len(ticks) < 3:
        ticks = np.geomspace(low, high, 4).tolist()
    end = 0
    for value in ticks:
        share = math.log(value / low) / math.log(high / low)
        x = margin + round(share * (width - 2 * margin - 1))
        label = f'{value:.3g} m'
        wide = _text_width(label, width)
        if x - wide // 2 < end:
            continue
        cv2.line(bar, (x, line), (x, line + tick), (0, 0, 0), max(1, width // 480))
        _write(bar, label, x - wide // 2, line + tick, width)
        end = x + wide // 2 + line // 2
    return bar


def legend(
    labels: Sequence[int], names: Sequence[str], palette: Picture, width: int
) -> Picture:
    """Draw the colour and the name of each class, in as many columns as fit.

    Args:
        labels: Class indices; those without a colour appear as one entry, "ignored".
        names: Names of the classes; "class 3" for a class without.
        palette: RGB of each class (classes, 3).
        width: Width in pixels. The text grows with it.

    Returns:
        RGB, uint8 (height, width, 3), on white.
    """
    known = sorted(label for label in set(labels) if 0 <= label < len(palette))
    entries = [
        (names[label] if label < len(names) else f'class {label}', palette[label])
        for label in known
    ]
    if len(known) < len(set(labels)):
        entries.append(('ignored', np.array(IGNORED, np.uint8)))
    line = _line(width)
    needed = max(_text_width(name, width) for name, _ in entries) + 2 * line
    columns = max(1, (width - line) // needed)
    rows = math.ceil(len(entries) / columns)
    canvas = np.full((rows * line, width, 3), 255, np.uint8)
    for i, (name, colour) in enumerate(entries):
        x, y = line // 2 + i // rows * needed, i % rows * line
        swatch = canvas[y + line // 6 : y + line - line // 6, x : x + line]
        swatch[:] = 0
        swatch[1:-1, 1:-1] = colour
        _write(canvas, name, x + line + line // 3, y, width)
    return canvas


def draw_panel(
    image: Picture,
    rows: Sequence[Maps],
    dataset_meta: Mapping[str, Any],
    alpha: float,
) -> Picture:
    """Draw the image, the legend and the maps of each row in one picture.

    Args:
        image: RGB (H, W, 3). It is enlarged by a whole number to ``MIN_WIDTH``.
        rows: At least one. Truth comes first: it sets the scale of depth.
        dataset_meta: ``classes`` and ``palette``.
        alpha: Opacity of the labels over the image, 0 to 1.

    Returns:
        RGB, uint8. It has two columns of tiles if there are labels and depth, or one.
    """
    factor = math.ceil(MIN_WIDTH / image.shape[1])
    size = (width, _) = (image.shape[1] * factor, image.shape[0] * factor)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    key = []
    labelled = [row.labels for row in rows if row.labels is not None]
    if labelled:
        palette = class_palette(dataset_meta)
        present = np.unique(np.concatenate([np.unique(found) for found in labelled]))
        names = dataset_meta.get('classes') or ()
        entries = legend(present.tolist(), names, palette, width)
        key.append(_titled('classes', entries))
    measured = [row.depth for row in rows if row.depth is not None]
    if measured:
        low, high = next(filter(None, map(depth_range, measured)), (1.0, 100.0))
        bar = depth_bar(low, high, width)
        key.append(_titled('depth (black: no measurement)', bar))
    tiles = [[_titled('image', image)]]
    for row in rows:
        labels = depth = np.full((1, width, 3), 255, np.uint8)
        if row.labels is not None:
            classes = colour_labels(_resize(row.labels, size), palette)
            mixed = cv2.addWeighted(classes, alpha, image, 1 - alpha, 0)
            labels = _titled(f'{row.title}: labels', mixed.astype(np.uint8))
        if row.depth is not None:
            coloured = colour_depth(_resize(row.depth, size), low, high)
            depth = _titled(f'{row.title}: depth', coloured)
        tiles.append([labels] * bool(labelled) + [depth] * bool(measured))
    if len(key) == 2:
        tiles[0].append(np.vstack(key))
    else:
        tiles.append(key)
    return np.vstack([_side_by_side(row) for row in tiles])


def _maps(sample: DetDataSample, title: str, prefix: str) -> Maps:
    def read(kind: str) -> Any:
        if f'{prefix}_{kind}' not in sample:
            return None
        return torch.as_tensor(sample.get(f'{prefix}_{kind}').get(kind)).cpu()[0]

    labels, depth = read('sem_seg'), read('depth')
    return Maps(
        title,
        None if labels is None else labels.int().numpy(),
        None if depth is None else depth.float().numpy(),
    )


def _measured(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    return np.isfinite(depth) & (depth > 0)


def _resize(values: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)


def _side_by_side(tiles: Sequence[Picture]) -> Picture:
    """Return tiles of one width in one row; white is below the shorter ones."""
    row = np.full(
        (max(map(len, tiles)), len(tiles), tiles[0].shape[1], 3), 255, np.uint8
    )
    for i, tile in enumerate(tiles):
        row[: len(tile), i] = tile
    return row.reshape(len(row), -1, 3)


def _line(width: int) -> int:
    """Return the height of a line of text in a tile."""
    return width // 24


def _style(width: int) -> tuple[float, int]:
    """Return the scale and the thickness of text in a tile."""
    return width / 1000, max(1, round(width / 1000))


def _text_width(text: str, width: int) -> int:
    return cv2.getTextSize(text, FONT, *_style(width))[0][0]


def _write(canvas: Picture, text: str, x: int, y: int, width: int) -> None:
    """Write black text into the line whose upper left corner is (x, y)."""
    scale, thickness = _style(width)
    base = y + round(0.75 * _line(width))
    cv2.putText(canvas, text, (x, base), FONT, scale, 0, thickness, cv2.LINE_AA)


def _titled(text: str, tile: Picture) -> Picture:
    line = _line(tile.shape[1])
    header = np.full((round(1.3 * line), tile.shape[1], 3), 255, np.uint8)
    _write(header, text, line // 2, line // 5, tile.shape[1])
    return np.vstack([header, tile])
