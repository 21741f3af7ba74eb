"""Test prompts made of masks on shapes with known answers, and what reaches SAM 2."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcast.models.segmenters import Sam2Segmenter
from mmcast.models.segmenters.mask_prompts import (
    box_of,
    draw_inner_points,
    gaussian_logits,
    innermost_point,
    outermost_point,
)
from mmcast.models.segmenters.refinement import (
    RECIPES,
    refine_masks,
    samrefiner_prompts,
)
from mmcast.testing import SAM2

Y, X = np.mgrid[:40, :60]
DISK = (Y - 20) ** 2 + (X - 30) ** 2 <= 100
RING = DISK & ((Y - 20) ** 2 + (X - 30) ** 2 > 25)
BAR = (Y >= 10) & (Y < 15) & (X >= 5) & (X < 50)
# Lacks a corner of its box, whose pixels are 20 from the bar below at most.
ANGLE = ((X < 8) | (Y >= 30)) & (X < 40) & (Y >= 10)
EVERYTHING = np.ones((40, 60), bool)


def test_points_of_shapes():
    assert box_of(DISK).tolist() == [20, 10, 41, 31]
    assert innermost_point(DISK).tolist() == [30.5, 20.5]
    assert outermost_point(RING).tolist() == [30.5, 20.5]
    # All of a bar's middle row is innermost: its first pixel of depth 3 is taken.
    assert innermost_point(BAR).tolist() == [7.5, 12.5]
    assert outermost_point(BAR) is None
    assert outermost_point(ANGLE).tolist() == [27.5, 10.5]
    # The image's border is no edge.
    assert innermost_point(ANGLE).tolist() == [0.5, 39.5]
    assert outermost_point(EVERYTHING) is None
    assert box_of(EVERYTHING).tolist() == [0, 0, 60, 40]


def test_gaussian_is_sure_in_the_middle():
    logits = gaussian_logits(BAR)
    depth = np.minimum(np.minimum(Y - 9, 15 - Y), np.minimum(X - 4, 50 - X))
    inside = 30 * np.exp(-((3.0 - depth) ** 2) / (5 * 45 / 4))
    np.testing.assert_allclose(logits, np.where(BAR, inside, -30), rtol=1e-5)
    dot = np.zeros((40, 60), bool)
    dot[3, 4] = True
    assert gaussian_logits(dot)[3, 4] == 30
    assert (gaussian_logits(EVERYTHING) == 30).all()


def test_points_are_drawn_by_their_distance_from_the_edge():
    random = np.random.default_rng(0)
    drawn = np.concatenate([draw_inner_points(BAR, 3, random) for _ in range(1500)])
    x, y = np.floor(drawn).astype(int).T
    assert BAR[y, x].all()
    middle = (x >= 10) & (x < 45)
    rows = np.bincount(y[middle], minlength=15)[10:] / middle.sum()
    np.testing.assert_allclose(rows, np.array([1, 2, 3, 2, 1]) / 9, atol=0.03)
    three = draw_inner_points(BAR, 225, random)
    assert len(np.unique(three, axis=0)) == 225
    dot = np.zeros((40, 60), bool)
    dot[3, 4] = True
    assert draw_inner_points(dot, 3, random).tolist() == [[4.5, 3.5]] * 3


@pytest.fixture(scope='module')
def segmenter():
    torch.manual_seed(0)
    segmenter = Sam2Segmenter(SAM2).eval()
    # As they are drawn, masks hardly depend on the prompts.
    for name, weight in segmenter.named_parameters():
        if weight.ndim > 1 and 'norm' not in name:
            weight.data.normal_(0, 1)
            if 'embed' not in name or 'patch' in name:
                weight.data.mul_(0.9 / weight[0].numel() ** 0.5)
    return segmenter


def picture():
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=random)


def alone(segmenter, image, mask, rounds):
    """Run transformers' model on SAMRefiner's prompts of one object."""
    pixels = segmenter.processor(image, return_tensors='pt')['pixel_values']
    scale = np.array([128 / 60, 128 / 40])
    for _ in range(rounds):
        outside = outermost_point(mask)
        points = np.stack(
            [innermost_point(mask), np.zeros(2) if outside is None else outside]
        )
        label = -1 if outside is None else 0
        prompt = cv2.resize(gaussian_logits(mask), (32, 32), None, 0, 0, cv2.INTER_AREA)
        with torch.no_grad():
            output = segmenter.sam2(
                pixel_values=pixels,
                input_points=torch.tensor(points * scale - 0.5).float()[None, None],
                input_labels=torch.tensor([[[1, label]]]),
                input_boxes=torch.tensor(box_of(mask) * np.tile(scale, 2)).float()[
                    None, None
                ],
                input_masks=torch.tensor(prompt)[None, None],
            )
        best = output.iou_scores[0, 0].argmax()
        large = F.interpolate(output.pred_masks[:, 0], (40, 60), mode='bilinear')
        new = large[0, best].numpy() > 0
        mask = new if new.any() else mask
    return mask, output.iou_scores[0, 0, best].item()


@pytest.mark.parametrize('rounds', [1, 5])
def test_samrefiner_equals_transformers_one_by_one(segmenter, monkeypatch, rounds):
    assert RECIPES['samrefiner'] == (samrefiner_prompts, 5)
    monkeypatch.setitem(RECIPES, 'samrefiner', (samrefiner_prompts, rounds))
    masks = [DISK, RING, BAR, ANGLE, EVERYTHING]
    ours = refine_masks(segmenter, picture(), masks, 'samrefiner', None, chunk=2)
    for old, (mask, quality) in zip(masks, ours, strict=True):
        expected, score = alone(segmenter, picture(), old, rounds)
        assert (mask != expected).sum() <= 2
        assert quality == pytest.approx(score, abs=1e-4)
    if rounds == 1:
        assert len({mask.tobytes() for mask, _ in ours}) > 3


def test_s4m_gives_three_points_and_takes_the_best_mask(segmenter):
    image = picture()
    masks = [DISK, BAR]
    random = np.random.default_rng(5)
    points = np.stack([draw_inner_points(mask, 3, random) for mask in masks])
    pixels = segmenter.processor(image, return_tensors='pt')['pixel_values']
    scaled = torch.tensor(points * np.array([128 / 60, 128 / 40]) - 0.5).float()
    with torch.no_grad():
        output = segmenter.sam2(
            pixel_values=pixels,
            input_points=scaled[None],
            input_labels=torch.ones(1, 2, 3, dtype=torch.int),
        )
    ours = refine_masks(segmenter, image, masks, 's4m', np.random.default_rng(5))
    for i, (mask, quality) in enumerate(ours):
        scores = output.iou_scores[0, i]
        logits = output.pred_masks[0, i, scores.argmax()][None, None]
        expected = F.interpolate(logits, (40, 60), mode='bilinear')[0, 0].numpy() > 0
        assert (mask != expected).sum() <= 2
        assert quality == pytest.approx(scores.max().item(), abs=1e-5)
    assert ours[0][0].tobytes() != ours[1][0].tobytes()


def test_a_mask_without_a_pixel_leaves_the_old_one(segmenter, monkeypatch):
    monkeypatch.setattr(
        segmenter,
        'best_of_three',
        lambda encoded, prompts, size: (-torch.ones(1, 32, 32), torch.tensor([0.25])),
    )
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    for recipe in RECIPES:
        random = np.random.default_rng(0)
        ((mask, quality),) = refine_masks(segmenter, image, [BAR], recipe, random)
        assert (mask == BAR).all()
        assert quality == 0.25


def test_prompt_masks_have_sam2s_size():
    prompts = samrefiner_prompts([DISK, BAR], (32, 32), None)
    assert prompts.masks.shape == (2, 32, 32)
    assert prompts.masks[0, 16, 16] > 29
    assert prompts.masks.min() == -30
    assert prompts.labels.tolist() == [[1, 0], [1, -1]]
