"""Test pictures of instances, and which instances they show."""

import cv2
import numpy as np
import pytest
from mmdet.apis import inference_detector, init_detector
from pycocotools.coco import COCO

from mmcast.apis import model_files
from mmcast.visualization.instances import annotated, overlay, predicted


def test_overlay_colours_inside_and_keeps_the_rest_grey():
    image = np.random.default_rng(0).integers(0, 255, (16, 32, 3), np.uint8)
    masks = np.zeros((2, 16, 32), bool)
    masks[0, 4:12, 2:12] = True
    masks[1, 4:12, 20:30] = True
    picture = overlay(image, masks, np.array([0, 3]))
    assert picture.shape == (32, 64, 3)
    large = cv2.resize(image, (64, 32), interpolation=cv2.INTER_CUBIC)
    grey = cv2.cvtColor(large, cv2.COLOR_BGR2GRAY)
    seen = masks.any(0).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    outside = cv2.dilate(seen, np.ones((5, 5))) == 0  # outlines are smooth
    assert (picture[outside] == grey[outside][:, None]).all()
    # Red, then 3 * 67 - 180 = 21 of OpenCV's 180 degrees: half of it over the grey.
    inner = np.s_[10:22, 6:22], np.s_[10:22, 42:58]
    for place, hue, saturation, value in zip(
        inner, (0, 21), (255, 215), (255, 205), strict=True
    ):
        colour = np.array([[[hue, saturation, value]]], np.uint8)
        colour = cv2.cvtColor(colour, cv2.COLOR_HSV2BGR)[0, 0]
        expected = 0.5 * grey[place][..., None] + 0.5 * colour
        np.testing.assert_allclose(picture[place], expected, atol=1)
    plain = overlay(image, masks[:0], np.array([], int))
    assert (plain == grey[..., None]).all()


def test_annotated_objects_without_crowds():
    coco = COCO()
    box = [[2, 2, 6, 2, 6, 6, 2, 6]]
    common = dict(image_id=1, segmentation=box, area=16)
    coco.dataset = dict(
        images=[dict(id=1, height=10, width=12)],
        categories=[dict(id=7, name='b'), dict(id=3, name='a')],
        annotations=[
            dict(common, id=1, category_id=7, iscrowd=0),
            dict(common, id=2, category_id=3, iscrowd=1),
        ],
    )
    coco.createIndex()
    masks, labels = annotated(coco, 1)
    assert masks.shape == (1, 10, 12)
    assert masks[0, 2:6, 2:6].all()
    assert masks.sum() == 16
    assert labels.tolist() == [1]


def test_predicted_instances_are_those_above_the_score_the_best_last(synthscapes):
    files = model_files('finetune_synthscapes')
    path = min((synthscapes / 'leftImg8bit/val').rglob('*.png'))
    image = cv2.imread(str(path))
    model = init_detector(*files, device='cpu')
    every = inference_detector(model, image).pred_instances.numpy()
    least = float(np.sort(every.scores)[-4])
    ((masks, labels),) = predicted(*files, [image], least)
    order = np.argsort(-every.scores)[:3][::-1]
    assert labels.tolist() == every.labels[order].tolist()
    assert (masks == every.masks[order]).all()
    assert len(labels) == 3
    with pytest.raises(FileNotFoundError):
        predicted(files[0], 'no_such.pth', [image])
