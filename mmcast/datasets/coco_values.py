"""Values of a COCO file as tools write them: ids, numbers, masks, boxes."""

from collections.abc import Sequence
from typing import Any, TypeGuard

from pycocotools import mask as mask_utils

from .coco_masks import why_bad_mask, why_bad_polygon

# Whole numbers up to here survive numpy and JSON.
_LARGEST_ID = 1 << 53


def are_ids(ids: Sequence[Any], least: int = 0) -> bool:
    """Say whether all are different whole numbers that stay what they are."""
    return len(set(map(str, ids))) == len(ids) and all(
        type(each) is int and least <= each <= _LARGEST_ID for each in ids
    )


def id_key(value: Any) -> Any:
    """Return what an id is compared by: 7, 7.0 and '7' are one; None for no id."""
    whole = whole_number(value)
    if whole is not None:
        return whole
    return value if isinstance(value, str) and value else None


def whole_number(value: Any) -> int | None:
    """Return a whole number, also one that is a float or text; None for another."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and len(value) < 25:
        digits = value.removesuffix('.0')
        if digits.isdigit() and str(int(digits)) == digits:
            return int(digits)
    return None


def read_mask(mask: Any, height: int, width: int) -> tuple[Any, str, str]:
    """Return a mask's good part, why there is none, and why it lost a polygon."""
    if isinstance(mask, list):
        if all(type(number) in (int, float) for number in mask):
            mask = [mask]  # one polygon, without the list of polygons
        reasons = [why_bad_polygon(polygon) for polygon in mask]
        good = [p for p, why in zip(mask, reasons, strict=True) if why is None]
        first = next(filter(None, reasons), '')
        if not good:
            return None, first, ''
        return good, '', first
    if isinstance(mask, dict) and isinstance(mask.get('size'), list | tuple):
        mask = {**mask, 'size': [whole_number(side) for side in mask['size']]}
        if isinstance(mask.get('counts'), list):
            mask['counts'] = [whole_number(run) for run in mask['counts']]
    why = why_bad_mask(mask, height, width)
    if why:
        return None, why, ''
    if isinstance(mask['counts'], list):
        mask = mask_utils.frPyObjects(mask, height, width)
    counts = mask['counts']
    text = counts.decode() if isinstance(counts, bytes) else counts
    return dict(size=[height, width], counts=text), '', ''


def is_true(value: Any) -> bool:
    """Return whether ``iscrowd`` means yes, as a number, a bool or text."""
    return str(value).strip().lower() in ('1', '1.0', 'true', 'yes')


def box_differs(stated: Any, box: Sequence[float]) -> bool:
    """Say whether a stated box is another one: over 2 pixels away from the mask's."""
    if not is_box(stated):
        return True
    mine, theirs = _corners(box), _corners(stated)
    return not all(abs(a - b) <= 2 for a, b in zip(mine, theirs, strict=True))


def box_elsewhere(stated: Sequence[float], box: Sequence[float]) -> bool:
    """Say whether a stated box shares less than half of its union with the mask's.

    One whose third and fourth number are its other corner does not count.
    """
    x, y, right, bottom = stated
    as_corners = [x, y, right - x, bottom - y]
    return max(_iou(stated, box), _iou(as_corners, box)) < 0.5


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    (a, b, c, d), (e, f, g, h) = _corners(one), _corners(other)
    shared = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    union = one[2] * one[3] + other[2] * other[3] - shared
    return shared / union if shared else 0.0


def has_pixels(stated: Any) -> TypeGuard[Sequence[float]]:
    """Say whether a stated box has an area, and is not in parts of the image."""
    return is_box(stated) and min(stated[2:]) > 0 and max(stated) > 1


def has_hole(stated: Any, area: int, of_polygons: Sequence[int]) -> bool:
    """Say whether a polygon of a mask lies in another one, and was meant as a hole.

    Args:
        stated: The area that the file states, without the hole.
        area: Pixels of the mask, where the hole is filled.
        of_polygons: Pixels of each of its polygons.
    """
    shared = sum(of_polygons) - area
    if shared <= 0 or shared < 0.9 * min(of_polygons):
        return False
    # Areas of polygons are a little smaller than the number of their pixels.
    return type(stated) in (int, float) and abs(stated - area + shared) <= shared / 2


def is_box(stated: Any) -> bool:
    """Say whether a value is a list of four numbers below 2^31."""
    return (
        isinstance(stated, list)
        and len(stated) == 4
        and all(type(each) in (int, float) and abs(each) < 1 << 31 for each in stated)
    )


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def area_differs(stated: Any, area: int) -> bool:
    """Say whether a stated area is none, or far from the number of the mask's pixels.

    That of a thin polygon may be much smaller than its pixels.
    """
    if type(stated) not in (int, float):
        return True
    return not area / 4 - 16 <= stated <= 2 * area + 16 or stated <= 0
