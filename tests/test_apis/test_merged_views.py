"""Test the merging of views against masks that are drawn by hand."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import Pad, Resize
from pycocotools import mask as mask_utils

from mmcast.apis.merged_views import Instances, Views, merge, view_pipeline


def drawn(*boxes):
    masks = []
    for x1, y1, x2, y2 in boxes:
        mask = np.zeros((20, 30), np.uint8, order='F')
        mask[y1:y2, x1:x2] = 1
        masks.append(mask_utils.encode(mask))
    return masks


def view(*instances):
    labels, scores, boxes = zip(*instances, strict=True)
    return Instances(labels, scores, boxes, drawn(*boxes))


def by_score(instances):
    return sorted(zip(*instances[:4], strict=True), key=lambda each: -each[1])


def test_score_box_and_mask_of_an_instance():
    """Three views; the pixels that only the weakest has are lost."""
    found = merge(
        [
            view((1, 0.9, (2, 2, 12, 10))),
            view((1, 0.6, (2, 2, 12, 12))),
            view((1, 0.3, (0, 2, 12, 12))),
        ]
    )
    assert found.labels == [1]
    assert found.scores == pytest.approx([1.8 / 3])
    # (0.9 * 2 + 0.6 * 2) / 1.8, and (0.9 * 10 + 0.9 * 12) / 1.8
    assert found.bboxes[0] == pytest.approx([3 / 1.8, 2, 12, 11])
    # 0.6 + 0.3 of 1.8 is half: rows 10 and 11 stay, columns 0 and 1 have 0.3.
    (expected,) = drawn((2, 2, 12, 12))
    assert (mask_utils.decode(found.masks[0]) == mask_utils.decode(expected)).all()


def test_what_is_not_one_instance_stays_apart():
    """Another class, another place, and a second instance of the same view."""
    here, there = (0, 0, 10, 10), (15, 5, 25, 15)
    near = (0, 0, 10, 9)
    found = merge(
        [
            view((0, 0.8, here), (0, 0.5, near), (2, 0.4, here)),
            view((0, 0.6, here), (0, 0.2, there)),
        ]
    )
    one, *others = by_score(found)
    assert one[:2] == (0, pytest.approx(0.7))
    assert [each[0] for each in others] == [0, 2, 0]
    assert [each[1] for each in others] == pytest.approx([0.25, 0.2, 0.1])
    expected = [pytest.approx(box) for box in (near, here, there)]
    assert [each[2] for each in others] == expected


def test_nothing_found():
    nothing = Instances([], [], [], [])
    assert merge([nothing, nothing]) == nothing
    found = merge([nothing, view((0, 0.5, (1, 1, 5, 5)))])
    assert found.scores == [0.25]


def test_scores_of_zero():
    """Mask2Former has them for masks without a pixel, and `min_score` may be 0."""
    box = (0, 0, 10, 10)
    first = view((0, 0.0, box))._replace(mask_qualities=[0.75])
    second = view((0, 0.0, (0, 0, 10, 8)))._replace(mask_qualities=[0.25])
    found = merge([first, second])
    assert found.scores == [0.0]
    assert found.bboxes[0] == pytest.approx([0, 0, 10, 9])
    assert found.mask_qualities == pytest.approx([0.5])
    assert found.masks == drawn(box)  # each pixel has half of the votes or more


def test_sizes_of_a_pipeline():
    load, pack = dict(type='LoadImageFromFile'), dict(type='PackDetInputs')
    resize = dict(type='mmdet.Resize', scale=(640, 400), keep_ratio=True)
    pad = dict(type='Pad', size=(640, 640))
    given = [load, resize, pad, pack]
    found = view_pipeline(given, 1.5, flip=False)
    assert found[1]['scale'] == (960, 600)
    assert found[2]['size'] == (960, 960)
    assert given[1]['scale'] == (640, 400)
    choice = dict(type='FixScaleResize', scale=(800, 1333), keep_ratio=True)
    assert view_pipeline([load, choice], 0.5, flip=False)[1]['scale'] == (400, 666)
    assert view_pipeline([load, pack], 0.5, flip=False)[1] == dict(
        type='Resize', scale_factor=0.5
    )
    assert view_pipeline(given, 1, flip=False) == given
    keep = dict(type='mmcast.KeepImage')  # for a segmenter
    enlarged = dict(type='Resize', scale_factor=1.5)
    found = view_pipeline([load, keep, pack], 1.5, flip=False)
    assert found == [load, keep, enlarged, pack]


def test_types_of_a_pipeline_may_be_classes():
    """As in the configs of pure Python."""
    load, pad = dict(type=LoadImageFromFile), dict(type=Pad, size=(640, 640))
    resize = dict(type=Resize, scale=(640, 400))
    found = view_pipeline([load, resize, pad], 1.5, flip=False)
    assert found[1]['scale'] == (960, 600)
    assert found[2]['size'] == (960, 960)


@pytest.mark.parametrize(
    'scales', [[], [0], [-1.0], [100], [float('nan')], 0, '1.25', ['1']]
)
def test_odd_scales_are_refused(scales):
    with pytest.raises(ValueError, match='scales of views are'):
        Views(scales)


def test_one_scale_needs_no_list():
    assert Views(scales=1.25).names() == ['1.25']


def test_left_without_right_cannot_be_mirrored():
    assert Views(flip=False).turns(['left_eye', 'mouth'])
    with pytest.raises(ValueError, match='without mirrored views'):
        Views(flip=True).turns(['left_eye', 'mouth'])


def test_class_score_and_mask_quality_are_merged_if_all_views_have_them():
    box = (0, 0, 10, 10)
    first = view((0, 0.6, box))._replace(class_scores=[0.8], mask_qualities=[0.75])
    second = view((0, 0.2, box))._replace(class_scores=[0.4], mask_qualities=[0.5])
    found = merge([first, second])
    assert found.class_scores == pytest.approx([0.6])
    assert found.mask_qualities == pytest.approx([(0.6 * 0.75 + 0.2 * 0.5) / 0.8])
    assert found.best(1, 0.0).class_scores == found.class_scores
    without = merge([first, view((0, 0.2, box))])
    assert (without.class_scores, without.mask_qualities) == (None, None)
