"""Compare with mmdet's CocoMetric."""

import copy
import json

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from pycocotools import mask as mask_utils

from mmcast.datasets import mask_encoding
from mmcast.evaluation import WindowedCocoMetric


@pytest.mark.parametrize('small', [0, 1 << 30])
def test_metrics_are_those_of_mmdet(small, tmp_path, monkeypatch):
    monkeypatch.setattr(mask_encoding, '_SMALL', small)
    rng = np.random.default_rng(0)
    images, annotations, samples = [], [], []
    for i in range(1, 7):
        images.append(dict(id=i, file_name=f'{i}.png', height=40, width=60))
        masks = np.zeros((3, 40, 60), bool)
        for label, mask in enumerate(masks):
            y, x = rng.integers(0, 20, 2)
            mask[y : y + 15, x : x + 20] = True
            rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
            rle['counts'] = rle['counts'].decode()
            ids = dict(id=len(annotations) + 1, image_id=i, category_id=label % 2 + 1)
            box = dict(bbox=[int(x), int(y), 20, 15], area=300, iscrowd=0)
            annotations.append({**ids, **box, 'segmentation': rle})
        masks ^= rng.random(masks.shape) < 0.1
        found = dict(
            bboxes=torch.tensor([[0.0, 0, 30, 30]]).repeat(3, 1),
            scores=torch.from_numpy(rng.random(3)),
            labels=torch.tensor([0, 1, 0]),
            masks=torch.from_numpy(masks),
        )
        samples.append(dict(img_id=i, ori_shape=(40, 60), pred_instances=found))
    categories = [dict(id=1, name='a'), dict(id=2, name='b')]
    content = dict(images=images, annotations=annotations, categories=categories)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(content))
    results = []
    for kind in (CocoMetric, WindowedCocoMetric):
        metric = kind(str(path), 'segm', classwise=True)
        metric.dataset_meta = dict(classes=('a', 'b'))
        metric.process({}, copy.deepcopy(samples))
        results.append(metric.compute_metrics(metric.results))
    assert results[0] == results[1]
    assert 0 < results[0]['segm_mAP'] < 1
