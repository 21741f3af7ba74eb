"""What a test pipeline does to an image before the network sees it."""

from dataclasses import dataclass
from typing import Any

from mmdet.utils import get_test_pipeline_cfg

# What neither moves nor changes a pixel.
PLAIN = ('Load', 'Pack', 'ToTensor')
# Options of LoadImageFromFile that change pixels, and what OpenCV reads by default.
LOADED = {'color_type': ('color',), 'imdecode_backend': ('cv2', None)}


@dataclass(frozen=True)
class View:
    """A test pipeline's resize and padding.

    Attributes:
        scale: Width and height to resize to, or None.
        keep_ratio: Whether the image is resized to fit into ``scale``, not to fill it.
        pad: Width and height to pad to at the right and below, or None.
        pad_step: Sides are padded to multiples of it.
        pad_value: What to pad with, by channel as loaded, or None if the pipeline does
            not pad.
    """

    scale: tuple[int, int] | None = None
    keep_ratio: bool = True
    pad: tuple[int, int] | None = None
    pad_step: int = 1
    pad_value: tuple[float, float, float] | None = None


def view_of(config: Any, raw: bool = False) -> View:
    """Return the view of a config's test pipeline.

    Args:
        config: The whole config. Its test data set may be wrapped.
        raw: Whether the config may lack a test pipeline.

    Raises:
        ValueError: There is no pipeline, or it has other steps, or options that are
            not known here.
    """
    try:
        pipeline = get_test_pipeline_cfg(config)
    except (AttributeError, RuntimeError):  # mmdet's for a config without one
        pipeline = []
    if not pipeline and not raw:
        raise ValueError(
            'the config has no test pipeline, which says how images are resized: set '
            'test_dataloader.dataset.pipeline, or export with --raw'
        )
    found: dict[str, Any] = {}
    for step in pipeline:
        options = dict(step)
        name = str(options.pop('type')).rpartition('.')[2]
        if name == 'Resize' and 'scale' not in found:
            found.update(_resize(options))
        elif name == 'Pad' and 'pad_value' not in found:
            found.update(_pad(options))
        elif name.startswith('LoadImage'):
            _check_loader(name, options)
        elif not name.startswith(PLAIN):
            raise ValueError(
                f"the test pipeline's {name} is not exported: a pipeline may have one "
                'Resize and one Pad'
            )
    return View(**found)


def _check_loader(name: str, options: dict[str, Any]) -> None:
    for option, known in LOADED.items():
        value = options.get(option, known[0])
        if value not in known:
            raise ValueError(
                f"the test pipeline's {name} with {option}={value!r} is not exported: "
                f'images are read with {known[0]!r}, so train with that'
            )


def _resize(options: dict[str, Any]) -> dict[str, Any]:
    scale, ratio = options.pop('scale', None), options.pop('keep_ratio', False)
    options.pop('clip_object_border', None)
    if scale is None or options:
        unknown = ', '.join(options) or 'no scale'
        raise ValueError(f"the test pipeline's Resize ({unknown}) is not exported")
    width, height = (scale, scale) if isinstance(scale, int) else scale
    return dict(scale=(width, height), keep_ratio=ratio)


def _pad(options: dict[str, Any]) -> dict[str, Any]:
    size, step = options.pop('size', None), options.pop('size_divisor', None)
    square = options.pop('pad_to_square', False)
    value = options.pop('pad_val', 0)
    if isinstance(value, dict):
        value = value.get('img', 0)
    if square or options:
        unknown = ', '.join(options) or 'pad_to_square'
        raise ValueError(f"the test pipeline's Pad ({unknown}) is not exported")
    values = (value,) * 3 if isinstance(value, int | float) else tuple(value)
    return dict(
        pad=size and (int(size[0]), int(size[1])),
        pad_step=step or 1,
        pad_value=values,
    )
