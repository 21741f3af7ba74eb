"""A label map as one mask per class."""

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from PIL import Image

from tests.tiny_student import student_config

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadLabelMap')]
PACK = dict(type='PackSegments', label_table='cityscapes')
# labelIds of Cityscapes: 7 road, 24 person, 26 car, 1 the ego vehicle, without class.
ROAD, PERSON, CAR, EGO = 7, 24, 26, 1


@pytest.fixture
def scene(tmp_path):
    """Write an image with two cars and two persons above a road."""
    labels = np.full((32, 64), ROAD, np.uint8)
    labels[2:6, 4:12] = labels[2:6, 40:50] = CAR
    labels[10:20, 3:5] = labels[11:19, 30:33] = PERSON
    labels[28:] = EGO
    image = np.random.default_rng(0).integers(0, 255, (32, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    cv2.imwrite(str(tmp_path / 'labels.png'), labels)
    paths = dict(
        img_path=str(tmp_path / 'image.png'),
        seg_map_path=str(tmp_path / 'labels.png'),
    )
    return paths, labels


def test_a_class_is_one_mask(scene):
    paths, labels = scene
    sample = Compose([*LOAD, PACK])(paths)['data_samples']
    found = sample.gt_instances
    assert found.labels.tolist() == [0, 11, 13]  # train ids, ascending
    assert found.labels.dtype == torch.int64
    for index, label in enumerate((ROAD, PERSON, CAR)):
        np.testing.assert_array_equal(found.masks.masks[index], labels == label)
    assert 'gt_sem_seg' not in sample


@pytest.mark.parametrize('mode', ['RGB', 'P'])
def test_a_map_of_colours_is_refused(scene, mode):
    """A palette's labels would be the blue of its colours."""
    paths, labels = scene
    Image.fromarray(labels).convert('RGB').convert(mode).save(paths['seg_map_path'])
    with pytest.raises(ValueError, match=r'labels\.png has colours, as a palette'):
        Compose(LOAD)(paths)


def test_masks_follow_the_crop(scene):
    paths, labels = scene
    crop = dict(type='ExactRandomCrop', crop_size=(16, 8))
    np.random.seed(1)
    packed = Compose([*LOAD, crop, PACK])(paths)
    found = packed['data_samples'].gt_instances
    whole = cv2.imread(paths['img_path'])
    part = packed['inputs'].numpy().transpose(1, 2, 0)
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)[:, :, 0]
    ((y, x),) = np.argwhere((windows == part).all((2, 3, 4)))
    window = labels[y : y + 8, x : x + 16]
    train_ids = {ROAD: 0, PERSON: 11, CAR: 13}
    present = sorted(train_ids[label] for label in np.unique(window) if label != EGO)
    assert found.labels.tolist() == present
    assert len(present) > 1  # or the crop shows nothing
    for label, mask in zip(found.labels.tolist(), found.masks.masks, strict=True):
        label_id = {v: k for k, v in train_ids.items()}[label]
        np.testing.assert_array_equal(mask, window == label_id)


def test_pixels_without_a_class_are_in_no_mask(scene):
    paths, labels = scene
    cv2.imwrite(paths['seg_map_path'], np.full_like(labels, EGO))
    found = Compose([*LOAD, PACK])(paths)['data_samples'].gt_instances
    assert len(found.labels) == len(found.masks) == 0
    assert found.masks.masks.shape == (0, 32, 64)


def test_student_learns_from_them(scene):
    paths, _ = scene
    packed = Compose([*LOAD, PACK])(paths)
    torch.manual_seed(0)
    model = MODELS.build(student_config(num_classes=19, pixel_contrast=None)).train()
    data = model.data_preprocessor(
        dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]),
        training=True,
    )
    losses = model.loss(data['inputs'], data['data_samples'])
    sum(losses.values()).backward()
    head = model.panoptic_head
    for parameter in (head.mask_embed[0].weight, head.query_feat.weight):
        assert parameter.grad.abs().sum() > 0
    assert losses['loss_dice'] > 0


def test_missing_label_map_is_told(scene):
    paths, _ = scene
    with pytest.raises(ValueError, match=r'image.png has no label map: put LoadLabel'):
        Compose([LOAD[0], PACK])(dict(img_path=paths['img_path']))


def test_unknown_label_is_told(scene):
    paths, labels = scene
    cv2.imwrite(paths['seg_map_path'], np.full_like(labels, 99))
    with pytest.raises(ValueError, match='has the label 99'):
        Compose([*LOAD, PACK])(paths)
