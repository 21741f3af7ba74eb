"""Test that masks by indices are mmdet's masks."""

import pickle

import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from pycocotools import mask as mask_utils

from mmcast.datasets.windowed_masks import WindowedMasks

RNG = np.random.default_rng(0)
PIXELS = (RNG.random((5, 37, 53)) > 0.5).astype(np.uint8)

STEPS = {
    'resize up': lambda m: m.resize((74, 91)),
    'resize down': lambda m: m.resize((11, 20)),
    'rescale': lambda m: m.rescale(1.37),
    'rescale to a frame': lambda m: m.rescale((100, 60)),
    'crop': lambda m: m.crop(np.array([4, 3, 30, 20])),
    'crop over the edge': lambda m: m.crop(np.array([30, 3, 400, 200])),
    'empty crop': lambda m: m.crop(np.array([5, 6, 5, 6])),
    'horizontal': lambda m: m.flip(),
    'vertical': lambda m: m.flip('vertical'),
    'diagonal': lambda m: m.flip('diagonal'),
    'integers': lambda m: m[np.array([3, 0])],
    'bools': lambda m: m[np.array([True, False, True, False, True])],
    'one': lambda m: m[2],
    'bilinear': lambda m: m.resize((20, 30), 'bilinear'),
    'pad': lambda m: m.pad((60, 70)),
    'weak view': lambda m: (
        m.resize((60, 80)).crop(np.array([9, 8, 41, 40]))[np.array([1, 4])].flip()
    ),
}


def check(found, expected):
    assert isinstance(found, BitmapMasks)
    assert (found.height, found.width) == (expected.height, expected.width)
    assert len(found) == len(expected)
    assert np.array_equal(found.to_ndarray(), expected.to_ndarray())
    assert found.to_ndarray().dtype == expected.to_ndarray().dtype


CHOOSE = ('integers', 'bools', 'one', 'weak view')  # which need masks to choose from


@pytest.mark.parametrize(
    ('step', 'count'),
    [(step, 5) for step in STEPS] + [(step, 0) for step in STEPS if step not in CHOOSE],
)
def test_every_step_equals_bitmap_masks(step, count):
    step = STEPS[step]
    pixels = PIXELS[:count]
    check(
        step(WindowedMasks(pixels, 37, 53)),
        step(BitmapMasks(pixels, 37, 53)),
    )


def test_all_sizes_of_the_published_view_are_resized_alike():
    """Compare with OpenCV for all scales of Cityscapes' weak view."""
    pixels = (RNG.random((1, 1024, 2048)) > 0.5).astype(np.uint8)
    for k in range(5, 21):
        size = (int(1024 * 0.1 * k), 2 * int(1024 * 0.1 * k))
        check(
            WindowedMasks(pixels, 1024, 2048).resize(size),
            BitmapMasks(pixels, 1024, 2048).resize(size),
        )


def test_boxes_areas_and_tensors_are_of_the_window():
    ours, theirs = (
        kind(PIXELS, 37, 53).crop(np.array([10, 10, 25, 30])).flip()
        for kind in (WindowedMasks, BitmapMasks)
    )
    assert np.array_equal(ours.areas, theirs.areas)
    boxes = [masks.get_bboxes(HorizontalBoxes).tensor for masks in (ours, theirs)]
    assert torch.equal(*boxes)
    assert torch.equal(ours.to_tensor(torch.bool, 'cpu'), theirs.to_tensor(bool, 'cpu'))
    check(BitmapMasks.cat([ours, theirs]), BitmapMasks.cat([theirs, theirs]))


def test_another_process_gets_the_window_only():
    window = WindowedMasks(PIXELS, 37, 53).crop(np.array([1, 2, 5, 6]))
    sent = pickle.dumps(window)
    assert len(sent) < 1000  # 80 pixels, not 9,805
    found = pickle.loads(sent)
    assert type(found) is BitmapMasks
    check(found, window)


def test_the_loaded_masks_stay_as_they_are():
    pixels = PIXELS.copy()
    window = WindowedMasks(pixels, 37, 53).flip()
    window.masks[:, :5] = 7
    assert np.array_equal(pixels, PIXELS)
    assert (window.resize((74, 106)).masks[:, :10] == 7).all()  # what was written stays


def test_encoded_masks_are_decoded_when_they_are_chosen(monkeypatch):
    rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in PIXELS]
    decoded = []
    decode = mask_utils.decode
    monkeypatch.setattr(
        'mmcast.datasets.windowed_masks.decode',
        lambda rle: decoded.append(rle) or decode(rle),
    )
    window = WindowedMasks(rles, 37, 53).resize((60, 80))[np.array([4, 2])]
    assert decoded == []
    check(window, BitmapMasks(PIXELS, 37, 53).resize((60, 80))[np.array([4, 2])])
    assert decoded == [rles[4], rles[2]]


def test_annotations_of_all_kinds_are_loaded_as_by_mmdet():
    """Use polygons of several parts, both kinds of RLE, and an invalid polygon."""
    polygon = [[3.0, 3, 20, 4, 18, 25], [30.0, 10, 45, 12, 40, 30]]
    rle = mask_utils.encode(np.asfortranarray(PIXELS[0]))
    runs = np.diff(np.flatnonzero(np.diff(PIXELS[1].T.ravel(), prepend=0, append=2)))
    first = int(np.flatnonzero(np.append(PIXELS[1].T.ravel(), 1))[0])
    counts = [first, *runs.tolist()]
    kinds = [
        polygon,
        dict(size=[37, 53], counts=rle['counts'].decode()),
        dict(size=[37, 53], counts=counts),
        [[1.0, 2, 3, 4]],
    ]
    results = [
        TRANSFORMS.build(dict(type=name, with_bbox=True, with_mask=True))(
            dict(
                img_shape=(37, 53),
                ori_shape=(37, 53),
                instances=[
                    dict(bbox=[0, 0, 9, 9], bbox_label=i, ignore_flag=0, mask=kind)
                    for i, kind in enumerate(kinds)
                ],
            )
        )
        for name in ('LoadInstances', 'LoadAnnotations')
    ]
    ours, theirs = results
    check(ours['gt_masks'], theirs['gt_masks'])
    assert np.array_equal(ours['gt_masks'].masks[2], PIXELS[1])
    assert np.array_equal(ours['gt_ignore_flags'], theirs['gt_ignore_flags'])
    assert np.array_equal(ours['gt_bboxes_labels'], theirs['gt_bboxes_labels'])


def test_masks_of_another_size_are_told():
    rle = mask_utils.encode(np.asfortranarray(PIXELS[0]))
    mask = dict(size=[37, 53], counts=rle['counts'].decode())
    instance = dict(bbox=[0, 0, 9, 9], bbox_label=0, ignore_flag=0, mask=mask)
    load = TRANSFORMS.build(dict(type='LoadInstances'))
    with pytest.raises(ValueError, match=r'a\.png is 53x37 pixels, .* is 37x53'):
        load(
            dict(
                img_path='a.png',
                img_shape=(53, 37),
                ori_shape=(53, 37),
                instances=[instance],
            )
        )


def test_polygons_stay_polygons_if_asked():
    instance = dict(
        bbox=[0, 0, 9, 9], bbox_label=0, ignore_flag=0, mask=[[1.0, 1, 9, 1, 9, 9]]
    )
    load = TRANSFORMS.build(dict(type='LoadInstances', poly2mask=False))
    shape = dict(img_shape=(37, 53), ori_shape=(37, 53))
    found = load(dict(**shape, instances=[instance]))['gt_masks']
    assert type(found) is PolygonMasks


def test_new_pixels_replace_the_window():
    window = WindowedMasks(PIXELS, 37, 53).flip()
    window.masks = PIXELS[:2, :5]
    check(window.resize((10, 53)), BitmapMasks(PIXELS[:2, :5], 5, 53).resize((10, 53)))
