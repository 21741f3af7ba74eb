"""Test fine-tuning on annotated boxes with a tiny SAM 2."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from discs import batch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.structures import InstanceData

from mmcast.models.segmenters.masks import predict_masks
from mmcast.testing import SAM2


@pytest.fixture
def model():
    config = Config.fromfile('configs/mmcast/_base_/models/sam2_large.py').model
    config.segmenter = dict(type='Sam2Segmenter', arch=SAM2)
    torch.manual_seed(0)
    return MODELS.build(config)


def test_loss_is_20_times_focal_plus_dice(model):
    images, samples = batch([3, 4])
    found = model.loss(images, samples)
    focal, dice = [], []
    for image, sample in zip(images, samples, strict=True):
        with torch.no_grad():
            logits, _ = model.segmenter.segment(
                model.segmenter.encode(image), sample.gt_instances.bboxes, (64, 64)
            )
        logits = F.interpolate(logits[None], (64, 64), mode='bilinear').double()
        p = logits.sigmoid().flatten()
        t = torch.tensor(sample.gt_instances.masks.masks).double().flatten()
        pt = torch.where(t > 0, p, 1 - p)
        alpha = torch.where(t > 0, 0.25, 0.75)
        focal.append((-alpha * (1 - pt) ** 2 * pt.log()).mean())
        dice.append(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    expected = dict(loss_mask=20 * sum(focal) / 2, loss_dice=sum(dice) / 2)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-4, atol=1e-5)


def test_only_prompt_encoder_and_mask_decoder_learn(model):
    sum(model.loss(*batch([3])).values()).backward()
    learns = {
        name.removeprefix('segmenter.sam2.').split('.')[0]
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    assert learns == {'prompt_encoder', 'mask_decoder'}
    may = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all('prompt_encoder' in name or 'mask_decoder' in name for name in may)


def test_images_without_boxes_give_zero_loss_with_graph(model):
    images, samples = batch([3, 4])
    with_one = model.loss(images[:1], samples[:1])
    for sample in samples[1:]:
        sample.gt_instances = InstanceData(
            bboxes=torch.zeros(0, 4),
            labels=torch.zeros(0, dtype=torch.long),
            masks=BitmapMasks(np.zeros((0, 64, 64), np.uint8), 64, 64),
        )
    for name, value in model.loss(images, samples).items():
        torch.testing.assert_close(value, with_one[name])
    nothing = model.loss(images[1:], samples[1:])
    sum(nothing.values()).backward()
    assert nothing['loss_mask'] == 0


def test_number_of_boxes_per_image_is_limited(model, monkeypatch):
    images, samples = batch([3])
    given = samples[0].gt_instances
    samples[0].gt_instances = InstanceData(
        bboxes=given.bboxes.repeat(50, 1),
        labels=given.labels.repeat(50),
        masks=BitmapMasks(given.masks.masks.repeat(50, 0), 64, 64),
    )
    counts = []
    segment = model.segmenter.segment
    monkeypatch.setattr(
        model.segmenter,
        'segment',
        lambda e, b, s: counts.append(len(b)) or segment(e, b, s),
    )
    model.loss(images, samples)
    assert counts == [32]


def iou(model, seeds):
    """Return the mean IoU of the masks predicted for annotated boxes."""
    images, samples = batch(seeds)
    model.eval()
    with torch.no_grad():
        samples = model.predict(images, samples)
    model.train()
    ious = []
    for sample in samples:
        assert sample.pred_instances.labels.tolist() == [0]
        found = sample.pred_instances.masks[0].numpy()
        mask = sample.gt_instances.masks.masks[0] > 0
        ious.append((found & mask).sum() / (found | mask).sum())
    return float(np.mean(ious))


def test_fine_tuning_raises_iou_on_held_out_boxes(model):
    held_out = range(1000, 1020)
    before = iou(model, held_out)
    learns = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=2e-3)
    first = last = None
    for step in range(60):
        losses = model.loss(*batch(range(4 * step, 4 * step + 4)))
        last = sum(losses.values())
        first = last if first is None else first
        optimizer.zero_grad()
        last.backward()
        optimizer.step()
    after = iou(model, held_out)
    print(f'\nloss {first:.2f} to {last:.2f}, mean IoU {before:.3f} to {after:.3f}')
    assert last < 0.7 * first
    assert after > before + 0.2
    assert after > 0.5


def test_rough_masks_for_sam2_raise():
    config = Config.fromfile('configs/mmcast/_base_/models/sam2_large.py').model
    config.update(segmenter=dict(type='Sam2Segmenter', arch=SAM2), rough_masks=0.5)
    with pytest.raises(
        ValueError, match=r'Sam2Segmenter takes no masks .* rough_masks'
    ):
        MODELS.build(config)


def test_unsuitable_pipeline_raises(model):
    images, samples = batch([3])
    samples[0].set_metainfo(dict(ori_shape=(128, 128)))
    with pytest.raises(ValueError, match='remove Resize'):
        model.predict(images, samples)
    samples[0].set_metainfo(dict(ori_shape=(64, 64)))
    del samples[0].gt_instances
    with pytest.raises(ValueError, match='LoadAnnotations'):
        model.predict(images, samples)


def test_masks_equal_those_of_predict_masks(model):
    images, samples = batch([5])
    model.eval()
    masks = model.predict(images, samples)[0].pred_instances.masks
    boxes = samples[0].gt_instances.bboxes
    assert torch.equal(masks, predict_masks(model.segmenter, images[0], boxes, 32)[0])
