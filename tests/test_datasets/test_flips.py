"""Compare the flip that swaps labels with mmdet's, and with the flipped drawing."""

from typing import Any

import numpy as np
import pytest
from mmdet.datasets.transforms import RandomFlip
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import Compose

import mmcast  # noqa: F401
from mmcast.datasets.mirrored import mirror_pairs, sided_classes
from mmcast.datasets.transforms.flips import RandomFlipSwapLabels, mirror_aware

CLASSES = ('left_eye', 'mouth', 'right_eye')
PAIRS = [('left_eye', 'right_eye')]


def face(turned: str | None = None) -> dict[str, Any]:
    """Draw a face: the left eye has colour 50, the mouth 100, the right eye 150.

    With a direction the drawing is mirrored, then its labels are read off: by a mirror
    a left eye becomes a right one, so the colours swap.
    """
    image = np.zeros((20, 30), np.uint8)
    image[2:6, 20:26] = 50
    image[12:16, 8:20] = 100
    image[3:8, 4:10] = 150
    axes = {'horizontal': 1, 'vertical': 0, 'diagonal': (0, 1), None: ()}
    image = np.flip(image, axes[turned])
    if turned in ('horizontal', 'vertical'):
        image = np.array([0, 150, 100, 50], np.uint8)[image // 50]
    # In the order of the drawing before it is mirrored.
    order = (150, 100, 50) if turned in ('horizontal', 'vertical') else (50, 100, 150)
    masks = np.stack([image == colour for colour in order])
    places = [np.argwhere(mask) for mask in masks]
    boxes = [[*p.min(0)[::-1], *(p.max(0)[::-1] + 1)] for p in places]
    return dict(
        img=np.repeat(image[:, :, None], 3, 2).copy(),
        gt_masks=BitmapMasks(masks.astype(np.uint8), 20, 30),
        gt_bboxes=HorizontalBoxes(np.array(boxes, np.float32)),
        gt_bboxes_labels=np.array([colour // 50 - 1 for colour in order]),
        img_shape=(20, 30),
    )


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_a_flip_is_a_mirrored_drawing(direction: str) -> None:
    """Masks, boxes and labels are those of the drawing; a colour names its class."""
    flip = RandomFlipSwapLabels([(0, 2)], prob=1.0, direction=direction)
    found, wanted = flip(face()), face(direction)
    np.testing.assert_array_equal(found['gt_masks'].masks, wanted['gt_masks'].masks)
    np.testing.assert_array_equal(found['gt_bboxes'].tensor, wanted['gt_bboxes'].tensor)
    np.testing.assert_array_equal(found['gt_bboxes_labels'], wanted['gt_bboxes_labels'])
    stock = RandomFlip(prob=1.0, direction=direction)(face())
    np.testing.assert_array_equal(found['img'], stock['img'])
    assert found['flip_direction'] == stock['flip_direction']
    assert found['gt_bboxes_labels'].dtype == stock['gt_bboxes_labels'].dtype


def test_without_a_flip_labels_stay() -> None:
    flip = RandomFlipSwapLabels([(0, 2)], prob=0.0)
    assert flip(face())['gt_bboxes_labels'].tolist() == [0, 1, 2]


def test_a_label_has_one_partner() -> None:
    with pytest.raises(ValueError, match='a label twice'):
        RandomFlipSwapLabels([(0, 2), (2, 1)], prob=0.5)


def built(*steps: dict) -> list[Any]:
    return [TRANSFORMS.build(step) for step in steps]


def test_flips_inside_other_transforms_swap() -> None:
    flip = dict(type='RandomFlip', prob=1.0)
    steps = built(
        flip,
        dict(type='RandomChoice', transforms=[[flip], [flip]]),
        dict(type='RandomApply', transforms=[flip], prob=1.0),
    )
    steps = mirror_aware(steps, dict(classes=CLASSES, mirrored=PAIRS))
    wanted = [2, 1, 0]
    results = face()
    for step in steps:
        results = step(results)
        assert results['gt_bboxes_labels'].tolist() == wanted
        wanted = wanted[::-1]


def test_without_pairs_nothing_is_flipped() -> None:
    prob = [0.5, 0.5]
    steps = built(
        dict(type='RandomFlip', prob=1.0),
        dict(type='RandomFlip', prob=prob, direction=['horizontal', 'vertical']),
    )
    results = Compose(mirror_aware(steps, dict(classes=CLASSES, mirrored=None)))(face())
    np.testing.assert_array_equal(results['img'], face()['img'])
    assert results['gt_bboxes_labels'].tolist() == [0, 1, 2]
    assert steps[1].prob == prob  # another data set may use the same transform


def mixes(step: Any) -> set[bool]:
    """Say whether the second face is a mirrored one, over 20 random mixtures."""
    found = set()
    for seed in range(20):
        np.random.seed(seed)
        for _ in range(3):  # it mixes as soon as its cache is full
            mixed = step({**face(), 'gt_ignore_flags': np.zeros(3, bool)})
        left, mouth, right = (
            m.nonzero()[1].mean() for m in mixed['gt_masks'].masks[3:]
        )
        assert left > mouth > right or left < mouth < right
        found.add(left < right)
    return found


def test_mixup_does_not_flip() -> None:
    """Its own flip, which the stock one makes, would swap no labels."""
    config = dict(
        type='CachedMixUp',
        img_scale=(30, 20),
        ratio_range=(1.0, 1.0),
        prob=1.0,
        max_cached_images=2,
    )
    assert mixes(*built(config)) == {False, True}
    metainfo = dict(classes=CLASSES, mirrored=PAIRS)
    assert mixes(*mirror_aware(built(config), metainfo)) == {False}


def test_other_data_sets_keep_their_transforms() -> None:
    steps = built(dict(type='RandomFlip', prob=0.5))
    assert mirror_aware(steps, dict(classes=CLASSES)) == steps


def test_pairs_are_classes() -> None:
    with pytest.raises(ValueError, match="'left_ear', which is no class"):
        mirror_aware([], dict(classes=CLASSES, mirrored=[('left_ear', 'right_ear')]))


@pytest.mark.parametrize(
    ('classes', 'pairs'),
    [
        (['cat', 'leftover', 'bright', 'copyright'], []),
        (['left_eye', 'cat', 'right_eye'], [('left_eye', 'right_eye')]),
        (['RightHand', 'LeftHand'], [('RightHand', 'LeftHand')]),
        (['left door', 'right door'], [('left door', 'right door')]),
        (['LEFT-2', 'RIGHT-2'], [('LEFT-2', 'RIGHT-2')]),
        (['left_eye', 'cat'], None),
        (['left_eye', 'right_ear'], None),
        (['left', 'right', 'right_ear'], None),
    ],
)
def test_pairs_by_name(classes: list[str], pairs: list | None) -> None:
    assert mirror_pairs(classes) == pairs
    assert bool(sided_classes(classes)) == (pairs != [])
