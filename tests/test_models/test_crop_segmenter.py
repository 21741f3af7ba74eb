"""Test the small segmenter, and the prompts that it is trained with."""

import numpy as np
import pytest
import torch
from discs import disc, sample_of
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmcast.models.segmenters import CropSegmenter
from mmcast.models.segmenters.mask_prompts import rough_mask
from mmcast.models.segmenters.masks import predict_masks

LOSSES = dict(
    loss_mask=dict(type='CrossEntropyLoss', use_sigmoid=True),
    loss_dice=dict(type='DiceLoss', naive_dice=True, eps=1.0),
)


def small(**changes):
    torch.manual_seed(0)
    config = dict(type='CropSegmenter', channels=[8, 16], side=16)
    return MODELS.build(config | changes).eval()


@pytest.mark.parametrize('box', [(10.0, 5.0, 22.0, 29.0), (-3.5, 2.25, 41.0, 20.0)])
def test_a_crop_lies_where_it_was_cut(box, monkeypatch):
    """Cut out and put back, an image that rises evenly is the same inside."""
    segmenter = small(side=32)
    monkeypatch.setattr(segmenter, '_predict', lambda crops: crops[:, 1:2])
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing='ij')
    image = torch.stack([x, x + 2 * y, y])
    boxes = torch.tensor([box])
    logits, quality = segmenter.segment(segmenter.encode(image), boxes, (40, 60))
    assert quality is None
    left, top, right, bottom = segmenter._windows(boxes)[0].tolist()
    wide, high = box[2] - box[0], box[3] - box[1]
    assert (left, right) == (box[0] - wide / 4, box[2] + wide / 4)
    assert (top, bottom) == (box[1] - high / 4, box[3] + high / 4)

    # Half a cell of the crop, and the image's own border, are not even.
    dx, dy = (right - left) / 32, (bottom - top) / 32
    inside = (x + 0.5 > max(left, 0) + dx + 0.5) & (x + 0.5 < min(right, 60) - dx - 0.5)
    inside &= (y + 0.5 > max(top, 0) + dy + 0.5) & (
        y + 0.5 < min(bottom, 40) - dy - 0.5
    )
    assert inside.sum() > 200
    expected = (x + 2 * y - 128) / 64
    torch.testing.assert_close(logits[0][inside], expected[inside])
    outside = (x < left - 1) | (x > right) | (y < top - 1) | (y > bottom)
    assert (logits[0][outside] == -10).all()


def test_small_boxes_show_what_is_around():
    boxes = torch.tensor([[10.0, 10.0, 11.0, 30.0]])
    window = small()._windows(boxes)[0].tolist()
    assert window == [8.0, 5.0, 13.0, 35.0]


def test_what_the_network_sees(monkeypatch):
    """Colour, where the box is, and what is known of the mask."""
    segmenter, seen = small(), []
    monkeypatch.setattr(
        segmenter, '_predict', lambda crops: seen.append(crops) or crops[:, :1]
    )
    image = torch.full((3, 40, 60), 192, dtype=torch.uint8)
    boxes = torch.tensor([[12.0, 8.0, 28.0, 24.0]] * 2)
    masks = torch.stack([torch.full((40, 60), -1.0), torch.zeros(40, 60)])
    masks[0, :, 20:] = 1
    segmenter.segment(segmenter.encode(image), boxes, (40, 60), masks)
    segmenter.segment(segmenter.encode(image), boxes, (40, 60))
    first, second = seen
    assert (first[:, :3] == 1).all()
    inside = torch.zeros(16, 16)
    inside[3:13, 3:13] = 1  # a crop's side is 1.5 times the box's: 2.7 of 16 remain
    assert (first[:, 3] == inside).all()
    torch.testing.assert_close(first[0, 4, :, :7], torch.full((16, 7), -1.0))
    torch.testing.assert_close(first[0, 4, :, 9:], torch.full((16, 7), 1.0))
    assert not first[1, 4].any()
    assert not second[:, 4].any()


def test_a_loss_compares_crops(monkeypatch):
    """A crop of 32x32 of the image's own pixels is a copy of these."""
    segmenter = small(side=32, context=2.0)
    monkeypatch.setattr(segmenter, '_predict', lambda crops: crops[:, 2:3])
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, 60, 70), generator=generator)
    target = (torch.rand(2, 60, 70, generator=generator) > 0.5).float()
    boxes = torch.tensor([[16.0, 20, 32, 36], [30, 10, 46, 26]])
    encoded = segmenter.encode(image)
    logits, cut = segmenter.compare(encoded, boxes, target)
    for i, (x, y) in enumerate([(8, 12), (22, 2)]):
        window = slice(y, y + 32), slice(x, x + 32)
        assert torch.equal(cut[i].view(32, 32), target[i][window])
        torch.testing.assert_close(logits[i].view(32, 32), encoded[0, 2][window])


def test_a_mask_depends_on_its_box_alone():
    segmenter = small()
    image = torch.randint(256, (3, 40, 60), generator=torch.Generator().manual_seed(0))
    encoded = segmenter.encode(image)
    boxes = torch.tensor([[3.0, 4, 20, 30], [15, 12, 35, 26], [0, 0, 9, 9]])
    before = boxes.clone()
    with torch.no_grad():
        together, _ = segmenter.segment(encoded, boxes, (40, 60))
        single, _ = segmenter.segment(encoded, boxes[1:2], (40, 60))
        # Five pixels to the left, and so is the mask.
        encoded = segmenter.encode(image.roll(-5, -1))
        box = boxes[1:2] - torch.tensor([5.0, 0, 5, 0])
        moved, _ = segmenter.segment(encoded, box, (40, 60))
    assert torch.equal(boxes, before)
    torch.testing.assert_close(together[1:2], single)
    torch.testing.assert_close(moved[..., :-5], single[..., 5:])


def test_the_order_in_memory_does_not_matter():
    """Images come as (H, W, 3), and masks as windows of larger ones."""
    segmenter = small()
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (40, 60, 3), generator=generator).permute(2, 0, 1)
    masks = torch.rand(2, 50, 70, generator=generator)[:, :40, :60] * 2 - 1
    boxes = torch.tensor([[3.0, 4, 20, 30], [15, 12, 35, 26]])
    with torch.no_grad():
        found, expected = (
            segmenter.segment(segmenter.encode(each), boxes, (40, 60), known)[0]
            for each, known in (
                (image, masks),
                (image.contiguous(), masks.contiguous()),
            )
        )
    assert torch.equal(found, expected)


def test_it_learns_from_boxes_and_from_rough_masks():
    random = np.random.default_rng(0)
    model = MODELS.build(
        dict(
            type='BoxPromptedSegmentor',
            segmenter=dict(type='CropSegmenter', channels=[8, 16], side=32),
            box_noise=0.05,
            rough_masks=0.5,
            **LOSSES,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        images, boxes, masks = zip(*(disc(random) for _ in range(4)), strict=True)
        losses = model.loss(torch.stack(images), [*map(sample_of, boxes, masks)])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    found = {'boxes': [], 'masks': [], 'rough': []}
    for _ in range(20):
        image, box, mask = disc(random)
        rough = rough_mask(mask, random)
        given = torch.tensor([box]).float()
        for name, prompts in (
            ('boxes', []),
            ('masks', [torch.from_numpy(rough)[None]]),
        ):
            (made,), _ = predict_masks(model.segmenter, image, given, 8, *prompts)
            found[name].append(iou(made.numpy(), mask))
        found['rough'].append(iou(rough, mask))
    mean = {name: np.mean(values) for name, values in found.items()}
    assert mean['boxes'] > 0.9
    assert mean['masks'] > max(0.9, mean['rough'])


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_rough_masks():
    _, _, mask = disc(np.random.default_rng(1))
    draws = [rough_mask(mask, np.random.default_rng(seed)) for seed in range(200)]
    assert (draws[3] == rough_mask(mask, np.random.default_rng(3))).all()
    ious = [iou(each, mask) for each in draws]
    assert 0.55 < np.mean(ious) < 0.85
    assert min(ious) > 0.2
    # Too large about as often as too small.
    larger = np.mean([each.sum() > mask.sum() for each in draws])
    assert 0.3 < larger < 0.7


class Still:
    """A generator that draws the middle of everything: no noise."""

    def integers(self, low, high):
        return low

    def normal(self, size):
        return np.zeros(size)

    def uniform(self, low, high, size=None):
        middle = (low + high) / 2
        return middle if size is None else np.full(size, middle)


@pytest.mark.parametrize('border', [False, True])
def test_without_noise_a_rough_mask_is_the_mask(border):
    _, _, mask = disc(np.random.default_rng(1))
    if border:
        mask = np.roll(mask, (30, -20), (0, 1)) | np.eye(64, dtype=bool)
    assert (rough_mask(mask, Still()) == mask).all()
    assert rough_mask(np.ones((5, 7), bool), Still()).all()


def test_noise_of_boxes():
    model = MODELS.build(
        dict(
            type='BoxPromptedSegmentor',
            segmenter=dict(type='CropSegmenter', channels=[8, 16], side=16),
            box_noise=0.1,
            **LOSSES,
        )
    )
    boxes = torch.tensor([[100.0, 50, 200, 70]]).repeat(4000, 1)
    moved = model._moved(boxes) - boxes
    # A standard deviation that is uniform from 0 to a tenth of the side.
    torch.testing.assert_close(
        moved.square().mean(0), torch.tensor([100.0, 4, 100, 4]) / 3, rtol=0.1, atol=0
    )
    assert moved.mean(0).abs().max() < 0.6
    thin = torch.tensor([[5.0, 5, 6, 60]]).repeat(200, 1)
    model.box_noise = 1.0
    sides = model._moved(thin)
    assert (sides[:, 2:] - sides[:, :2] >= 1).all()
    model.box_noise = 0.0
    assert model._moved(boxes) is boxes


def test_files_of_weights(tmp_path):
    """Those of a training have a prefix."""
    segmenter = small()
    state = {f'segmenter.{key}': value for key, value in segmenter.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'segmenter.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'segmenter.pth'))
    torch.manual_seed(1)
    again = CropSegmenter([8, 16], 16, init_cfg=pretrained)
    again.init_weights()
    for key, value in again.state_dict().items():
        assert torch.equal(value, segmenter.state_dict()[key])
    other = CropSegmenter([8, 24], 16, init_cfg=pretrained)
    with pytest.raises(ValueError, match=r'segmenter\.pth'):
        other.init_weights()


class GivenMasks(torch.nn.Module):
    """A detector that returns fixed masks, and keeps what it learns from."""

    def __init__(self, masks):
        super().__init__()
        self.masks = masks

    def extract_feat(self, inputs):
        return (inputs,)

    def predict(self, inputs, samples, rescale):
        for sample in samples:
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[40.0, 8, 56, 30], [2, 2, 30, 20]]),
                scores=torch.tensor([0.5, 0.9]),
                labels=torch.tensor([1, 0]),
                masks=self.masks,
            )
        return samples

    def loss(self, inputs, samples):
        self.learnt = samples
        return dict(loss=inputs.sum() * 0)


@pytest.mark.parametrize('prompted', [True, False])
def test_masks_of_the_detector_are_prompts(prompted, monkeypatch):
    """Each box has its own mask as prompt, also after boxes are sorted by score."""
    model = MODELS.build(
        dict(
            type='GroundedSam2',
            classes=('person', 'car'),
            detector=dict(type='torch.nn.Identity'),
            segmenter=dict(type='CropSegmenter', channels=[8, 16], side=16),
            mask_prompts=prompted,
            box_chunk=1,
            data_preprocessor=dict(type='DetDataPreprocessor'),
        )
    )
    masks = torch.rand(2, 40, 60) > 0.5
    model.detector = GivenMasks(masks)
    seen = []

    def segment(encoded, boxes, size, masks=None):
        seen.append((boxes.tolist(), masks))
        return torch.ones(1, *size), None

    monkeypatch.setattr(model.segmenter, 'segment', segment)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(40, 60),
            ori_shape=(40, 60),
            image=np.zeros((40, 60, 3), np.uint8),
        )
    )
    (found,) = model.predict(torch.zeros(1, 3, 40, 60), [sample])
    assert found.pred_instances.labels.tolist() == [0, 1]
    assert [boxes[0][0] for boxes, _ in seen] == [2, 40]
    for (_, given), mask in zip(seen, masks.flip(0), strict=True):
        if prompted:
            assert torch.equal(given, mask[None] * 2.0 - 1)
        else:
            assert given is None

    learnt = sample_of([1, 1, 9, 9], np.eye(64, dtype=bool))
    model.loss(torch.zeros(1, 3, 64, 64), [learnt])
    (given,) = model.detector.learnt
    assert given.gt_instances.masks is learnt.gt_instances.masks
