"""Test the height and width of training crops; mmdet writes the width first."""

from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine import Config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmcast'


@pytest.mark.parametrize(
    ('name', 'image', 'crop'),
    [
        ('cityscapes', (1024, 2048), (512, 1024)),
        ('ade20k', (683, 512), (630, 630)),
        ('coco', (480, 640), (1024, 1024)),
        ('synthscapes', (128, 256), (128, 256)),
    ],
)
def test_crops_have_the_published_height_and_width(name, image, crop):
    weak_view = Config.fromfile(CONFIGS / f'_base_/datasets/{name}.py').weak_view
    seen = set()
    np.random.seed(0)
    for _ in range(8):
        results = Compose(weak_view)(
            dict(
                img=np.full((*image, 3), 100, np.uint8),
                img_shape=image,
                gt_bboxes=HorizontalBoxes([[0, 0, image[1], image[0]]]),
                gt_bboxes_labels=np.zeros(1, np.int64),
                gt_ignore_flags=np.zeros(1, bool),
                gt_masks=BitmapMasks(np.ones((1, *image), np.uint8), *image),
            )
        )
        assert results['gt_masks'].masks.shape[1:] == results['img_shape']
        assert all(a <= b for a, b in zip(results['img_shape'], crop, strict=True))
        seen.add(results['img_shape'])
    assert crop in seen
