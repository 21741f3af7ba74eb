"""Masks for files that are made to do harm, and a check of the message."""

import numpy as np
from mmdet.registry import TRANSFORMS
from pycocotools import mask as mask_utils

import mmcast  # noqa: F401
from mmcast.datasets.pseudo_label_store import Teacher

TEACHER = Teacher('teacher.py', 'teacher.pth', 'ab' * 32)
DEEP = '[' * 100_000 + ']' * 100_000


def encode(mask):
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def square(size=(20, 30)):
    mask = np.zeros(size, np.uint8)
    mask[2:9, 3:11] = 1
    return encode(mask)


def one_line(error, *parts):
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 1000
    for part in parts:
        assert str(part) in text


def load_mask(mask):
    options = dict(with_bbox=False, with_label=False)
    load = TRANSFORMS.build(dict(type='LoadInstances', **options))
    instances = [dict(mask=mask, ignore_flag=0)]
    return load(dict(img_path='a.png', ori_shape=(20, 30), instances=instances))
