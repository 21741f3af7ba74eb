"""Any detector of MMDetection with its number of classes given in one place."""

from collections.abc import Sequence
from typing import Any

from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS

COUNTS = {'num_classes': 1, 'num_things_classes': 1, 'num_stuff_classes': 0}
OTHERS = ('backbone', 'neck', 'rpn_head')


@MODELS.register_module('WithClasses')
def with_classes(
    detector_type: str,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    pixel_contrast: None = None,
    **detector: Any,
) -> BaseDetector:
    """Build a detector of MMDetection for some number of classes.

    In a stock config each head has its own ``num_classes``. This sets them all, and the
    weights of classes in the loss of a MaskFormer or Mask2Former. The result is the
    stock detector itself: its checkpoints have stock names.

    Args:
        detector_type: The stock ``type``, as 'MaskRCNN'.
        classes: Class names; if given, their number counts.
        num_classes: Their number.
        pixel_contrast: None. Entry points switch their student's contrast off by this
            key; that of a stock detector belongs to the wrapper.
        detector: All other keys of the stock config.

    Raises:
        ValueError: No number of classes is given, or ``pixel_contrast`` is.
    """
    count = num_classes if classes is None else len(classes)
    if not count:
        raise ValueError(f'WithClasses of {detector_type}: give classes or num_classes')
    if pixel_contrast is not None:
        raise ValueError(
            f'{detector_type} has no pixel_contrast of its own: give it to '
            'SemiSupervisedSegmentor'
        )
    return MODELS.build({'type': detector_type, **for_classes(detector, count)})


def for_classes(node: Any, count: int) -> Any:
    """Copy the config of a stock detector for another number of classes.

    Args:
        node: The config, or a part of it.
        count: Number of classes, all of them things.
    """
    if isinstance(node, list | tuple):
        return type(node)(for_classes(each, count) for each in node)
    if not isinstance(node, dict):
        return node
    config = {
        key: value if key in OTHERS else for_classes(value, count)
        for key, value in node.items()
    }
    config.update({key: n * count for key, n in COUNTS.items() if key in config})
    weights = config.get('loss_cls', {}).get('class_weight')
    if 'num_things_classes' in config and weights is not None:
        weights = [weights[0]] * count + [weights[-1]]
        config['loss_cls'] = {**config['loss_cls'], 'class_weight': weights}
    return type(node)(config)
