"""The operators of :mod:`mmcast.deployment.operators` in those of ONNX."""

from collections.abc import Sequence
from typing import Any

import torch
from onnxscript import BOOL, FLOAT, INT64, opset18

op: Any = opset18  # its operators' types are too narrow for what is computed here
FLOAT32, BOOLEAN = 1, 9  # ONNX's numbers of types


def suppress(boxes: FLOAT, scores: FLOAT, iou_thr: float) -> BOOL:
    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, _ints(1)),
        op.Shape(scores, start=1, end=2),
        _floats(iou_thr),
        _floats(0.0),
    )
    places = op.Gather(chosen, _ints(0, 2), axis=1)  # group and box, without a class
    nothing = op.Expand(_floats(0.0), op.Shape(scores))
    ones = op.Expand(_floats(1.0), op.Shape(places, start=0, end=1))
    return op.Cast(op.ScatterND(nothing, places, ones), to=BOOLEAN)


def resized(maps: FLOAT, size: INT64) -> FLOAT:
    whole = op.Unsqueeze(maps, _ints(1))
    shape = op.Concat(op.Shape(whole, start=0, end=2), size, axis=0)
    large = op.Resize(
        whole,
        None,
        None,
        shape,
        mode='linear',
        coordinate_transformation_mode='half_pixel',
    )
    return op.Squeeze(large, _ints(1))


def placed(maps: Any, size: INT64) -> Any:
    part = op.Slice(maps, _ints(0, 0), size, _ints(1, 2))
    missing = op.Sub(size, op.Shape(part, start=1, end=3))
    return op.Pad(part, op.Concat(_ints(0, 0, 0, 0), missing, axis=0))


def pasted(maps: FLOAT, boxes: FLOAT, size: INT64) -> FLOAT:
    left, top, right, bottom = (
        op.Slice(boxes, _ints(i), _ints(i + 1), _ints(1)) for i in range(4)
    )
    rows = _weights(top, bottom, op.Gather(size, 0), op.Shape(maps, start=1, end=2))
    columns = _weights(left, right, op.Gather(size, 1), op.Shape(maps, start=2, end=3))
    turned = op.Transpose(columns, perm=[0, 2, 1])
    return op.MatMul(op.MatMul(rows, maps), turned)


def _weights(start: FLOAT, end: FLOAT, length: INT64, cells: INT64) -> FLOAT:
    cells = op.Squeeze(cells)
    pixels = op.Add(op.Cast(op.Range(0, length, 1), to=FLOAT32), 0.5)
    side = op.Max(op.Sub(end, start), 1e-6)
    at = op.Sub(op.Mul(op.Div(op.Sub(pixels, start), side), 2.0), 1.0)
    at = op.Mul(op.Add(at, 1.0), op.Cast(cells, to=FLOAT32))
    at = op.Div(op.Sub(at, 1.0), 2.0)
    places = op.Cast(op.Range(0, cells, 1), to=FLOAT32)
    distance = op.Abs(op.Sub(op.Unsqueeze(at, _ints(2)), places))
    return op.Max(op.Sub(1.0, distance), 0.0)


def features_of_boxes(
    maps: Sequence[FLOAT],
    boxes: FLOAT,
    images: INT64,
    levels: INT64,
    strides: Sequence[int],
    size: int,
    samples: int,
    aligned: bool,
) -> FLOAT:
    count = op.Shape(boxes, start=0, end=1)
    channels = op.Shape(maps[0], start=1, end=2)
    found = op.Expand(0.0, op.Concat(count, channels, _ints(size, size), axis=0))
    for level, (each, stride) in enumerate(zip(maps, strides, strict=True)):
        rows = op.Transpose(op.NonZero(op.Equal(levels, level)), perm=[1, 0])
        some = op.Squeeze(rows, _ints(1))
        features = op.RoiAlign(
            each,
            op.Gather(boxes, some),
            op.Gather(images, some),
            coordinate_transformation_mode='half_pixel'
            if aligned
            else 'output_half_pixel',
            output_height=size,
            output_width=size,
            sampling_ratio=samples,
            spatial_scale=1 / stride,
        )
        found = op.ScatterND(found, rows, features)
    return found


def _ints(*values: int) -> INT64:
    return op.Constant(value_ints=list(values))


def _floats(*values: float) -> FLOAT:
    return op.Constant(value_floats=list(values))


TABLE = {
    getattr(torch.ops.mmcast, each.__name__).default: each
    for each in (suppress, resized, placed, pasted, features_of_boxes)
}
