"""Test the contrast on difficult inputs, its state and its arguments."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS

import mmcast  # noqa: F401
from mmcast.models.losses import (
    PRESETS,
    PixelContrastLoss,
)
from mmcast.models.losses.pairs import CANDIDATES

# -- difficult inputs ------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_one_image_has_a_loss(batch, kind):
    one = [x[:1] for x in batch]
    for candidates in ('all', 'same_image'):
        assert PixelContrastLoss(candidates=candidates, negatives=kind)(*one) > 0


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_one_query_has_negatives_in_other_images_only(batch, kind):
    """Use K = 1, so that all pixels of an image have the same prediction."""
    z_weak, z_strong, masks, classes = batch
    one = (z_weak, z_strong, masks[:, :1], classes[:, :1])
    assert PixelContrastLoss(candidates='same_image', negatives=kind)(*one) == 0
    assert PixelContrastLoss(candidates='all', negatives=kind)(*one) > 0


@pytest.mark.parametrize('kind', ['expected', 'sampled', 'distinct'])
@pytest.mark.parametrize('case', ['equal', 'one_pixel'])
def test_loss_without_negatives_is_zero_with_a_graph(batch, case, kind):
    z_weak, z_strong, masks, classes = (x[:1] for x in batch)
    if case == 'equal':
        masks = torch.zeros_like(masks)
    else:
        z_weak, z_strong = z_weak[..., :1, :1], z_strong[..., :1, :1]
    z_weak, z_strong = z_weak.clone().requires_grad_(), z_strong.requires_grad_()
    loss = PixelContrastLoss(
        negatives='expected' if kind == 'expected' else 'sampled',
        replacement=kind != 'distinct',
    )(z_weak, z_strong, masks, classes)
    assert loss.item() == 0
    loss.backward()
    for z in (z_weak, z_strong):
        assert z.grad.shape == z.shape
        assert not z.grad.any()


@pytest.mark.parametrize('kind', ['expected', 'sampled'])
def test_anchors_without_negatives_are_left_out_of_the_mean(batch, kind):
    """Make all pixels of image 1 equal, so that only the anchors of image 0 count."""
    batch[2][1] = 0
    loss = PixelContrastLoss(candidates='same_image', negatives=kind)
    torch.manual_seed(1)
    both = loss(*(x[:2] for x in batch))
    torch.manual_seed(1)
    first = loss(*(x[:1] for x in batch))
    torch.testing.assert_close(both, first)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('which', range(4))
@pytest.mark.parametrize('candidates', CANDIDATES)
@pytest.mark.parametrize('kind', ['expected', 'sampled', 'distinct'])
def test_non_finite_inputs_make_the_loss_nan(batch, value, which, candidates, kind):
    batch[which].view(-1)[5] = value
    z_weak = batch[0].requires_grad_()
    loss = PixelContrastLoss(
        candidates=candidates,
        negatives='expected' if kind == 'expected' else 'sampled',
        replacement=kind != 'distinct',
    )(*batch)
    assert loss.isnan()
    loss.backward()
    assert z_weak.grad.isnan().any()


def test_optimising_separates_the_instances():
    """Give two queries half of the pixels each; their embeddings must separate."""
    torch.manual_seed(0)
    masks = torch.full((1, 2, 4, 4), -9.0)
    masks[0, 0, :, :2] = masks[0, 1, :, 2:] = 9.0
    classes = torch.tensor([[[5.0, 0.0], [5.0, 0.0]]])
    for kind in ('expected', 'sampled'):
        z = torch.randn(1, 8, 4, 4).requires_grad_()
        optimiser = torch.optim.SGD([z], lr=20.0)
        loss = PixelContrastLoss(num_negatives=32, negatives=kind, loss_weight=1.0)
        for _ in range(60):
            optimiser.zero_grad()
            loss(z, z.detach(), masks, classes).backward()
            optimiser.step()
        unit_z = F.normalize(z.detach()[0], dim=0)
        left, right = unit_z[:, :, :2].flatten(1), unit_z[:, :, 2:].flatten(1)
        assert (left.T @ right).mean() < -0.6
        assert (left.T @ left).mean() > 0.6
        assert (right.T @ right).mean() > 0.6


# -- state -----------------------------------------------------------------------------


def test_schedule_counts_training_steps_and_is_resumed(batch):
    schedule = dict(start=0.3, end=0.1, iters=4)
    loss = PixelContrastLoss(schedule)
    seen = []
    for _ in range(6):
        seen.append(loss.temperature.value)
        loss(*batch)
    assert seen == pytest.approx([0.3, 0.25, 0.2, 0.15, 0.1, 0.1])
    loss.eval()(*batch)
    assert loss.temperature.step == 6
    again = PixelContrastLoss(schedule)
    again(*batch)
    again.load_state_dict({'temperature.step': torch.tensor(2)})
    assert again.temperature.value == pytest.approx(0.2)
    again(*batch)
    assert again.temperature.value == pytest.approx(0.15)
    assert not PixelContrastLoss(0.3).state_dict()


# -- construction ----------------------------------------------------------------------


def test_presets_are_built_and_differ(batch):
    torch.manual_seed(0)
    for name, preset in PRESETS.items():
        loss = MODELS.build(dict(type='PixelContrastLoss', **preset))
        assert loss(*batch).isfinite()
        research = name == 'research_code'
        assert (loss.margin == 0.5) is research
        assert loss.unit_scores is not research
        assert loss.replacement is not research
    research = PixelContrastLoss(**PRESETS['research_code'])
    assert (research.score, research.candidates) == ('class', 'other_images')
    assert research.temperature.value == pytest.approx(0.3)
    research.load_state_dict({'temperature.step': torch.tensor(90_000)})
    assert research.temperature.value == pytest.approx(0.07)
    paper = PixelContrastLoss(**PRESETS['paper'])
    assert (paper.score, paper.candidates, paper.negatives) == (
        'fused',
        'same_image',
        'sampled',
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'temperature': 0}, 'temperature=0 must be at least 0.025; 0.07 to 0.4'),
        ({'temperature': math.nan}, 'must be at least'),
        ({'temperature': dict(start=0.3, end=0.0, iters=5)}, 'temperature=0.0 must'),
        ({'temperature': dict(start=0.3)}, r'dict\(start=..., end=..., iters=...\)'),
        ({'temperature': dict(start=0.3, end=0.1, iters=0)}, 'temperature.iters=0'),
        ({'num_negatives': 0}, 'num_negatives=0 must be an integer of at least 1.'),
        ({'max_candidates': 2.5}, 'max_candidates=2.5 must be an integer'),
        ({'score': 'both'}, r"score='both' is unknown; choose one of \('fused'"),
        ({'candidates': 'some'}, r"candidates='some' is unknown; choose one of"),
        ({'negatives': 'hard'}, r"negatives='hard' is unknown; choose one of"),
        ({'score_floor': 1e-6}, "score_floor=1e-06 needs negatives='sampled'"),
        ({'margin': -1}, 'margin=-1 must not be negative'),
        ({'loss_weight': -1}, 'loss_weight=-1 must not be negative'),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelContrastLoss(**arguments)


def test_shapes_are_checked(batch):
    z_weak, z_strong, masks, classes = batch
    loss = PixelContrastLoss()
    with pytest.raises(ValueError, match='photometric only'):
        loss(z_weak, z_strong[..., :2], masks, classes)
    with pytest.raises(ValueError, match='non-empty'):
        loss(z_weak[:0], z_strong[:0], masks[:0], classes[:0])
    with pytest.raises(ValueError, match="one decoder layer's predictions"):
        loss(z_weak, z_strong, masks, classes[:, 1:])
    with pytest.raises(ValueError, match='of the same batch'):
        loss(z_weak, z_strong, masks[:2], classes[:2])
    loss = PixelContrastLoss(candidates='other_images')
    with pytest.raises(ValueError, match='at least 2 images per device'):
        loss(*(x[:1] for x in batch))
