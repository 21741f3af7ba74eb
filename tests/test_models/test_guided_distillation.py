"""Test the wrapper with an online teacher that labels by the published rule."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.structures import InstanceData
from tiny_student import batch, both, sample, seeded, student_config, wrapper
from torch import nn

from mmcast.models.factored_masks import FactoredMasks
from mmcast.models.pseudo_labels import teacher_stats

BARE = dict(pixel_contrast=None)
NO_OBJECT = 8


def guided(**kwargs):
    """Build the wrapper with the configs' settings and a tiny student."""
    base = Config.fromfile('configs/mmcast/guided_distillation/_base_/method.py')
    settings = dict(base.guided, **kwargs)
    del settings['type']
    model = wrapper(teacher=student_config(**BARE), **settings)
    model.student.pixel_contrast = None
    return model


def set_teacher_queries(model, per_image, size):
    """Make the teacher predict fixed queries: per image, (label or None, mask logits).

    Returns:
        A list of the teacher's inputs, which grows with each call of the teacher.
    """
    shown = []
    queries = max(map(len, per_image))
    classes = torch.full((len(per_image), queries, NO_OBJECT + 1), -20.0)
    masks = torch.full((len(per_image), queries, *size), -20.0)
    classes[..., NO_OBJECT] = 0
    for b, found in enumerate(per_image):
        for k, (label, logits) in enumerate(found):
            classes[b, k, NO_OBJECT if label is None else label] = 20
            masks[b, k] = logits

    def forward(inputs, samples):
        shown.append(inputs)
        return [classes * 0, classes], [masks * 0, masks]

    model.teacher._forward = forward
    return shown


def block(rows, columns, size=(16, 24)):
    logits = torch.full(size, -20.0)
    logits[slice(*rows), slice(*columns)] = 20
    return logits


def test_published_rule_uses_the_last_layers_logits():
    model = guided()
    images, samples = batch(2)
    set_teacher_queries(
        model,
        [[(3, block((2, 8), (1, 5))), (None, block((2, 8), (1, 5)))], []],
        (16, 24),
    )
    first, second = model.pseudo_label(images, samples)
    assert first.gt_instances.labels.tolist() == [3]
    assert torch.equal(first.gt_instances.masks[0], block((2, 8), (1, 5)) > 0)
    assert len(second.gt_instances) == 0
    assert len(samples[0].gt_instances) == 3  # not changed


def test_rule_is_applied_to_a_real_teachers_logits():
    model = guided(query_rule=dict(score_thr=0.13, min_area=5.0)).train()
    images, samples = batch(2)
    with torch.no_grad():
        classes, masks = model.teacher._forward(images, samples)
    masks = masks[-1].dense()
    labelled = model.pseudo_label(images, samples)
    assert sum(len(each.gt_instances) for each in labelled) > 0
    for b, each in enumerate(labelled):
        kept = []
        for k in range(masks.shape[1]):
            p = classes[-1][b, k].softmax(0)
            soft = masks[b, k].sigmoid()
            if p.argmax() != NO_OBJECT and p.max() > 0.13 and soft.sum() > 5:
                kept.append((int(p.argmax()), soft > 0.5))
        assert each.gt_instances.labels.tolist() == [label for label, _ in kept]
        for mask, (_, expected) in zip(each.gt_instances.masks, kept, strict=True):
            assert torch.equal(mask, expected)


def test_padding_gives_no_pseudo_labels():
    model = guided()
    samples = [sample(64, 96), sample(32, 48, padded=(64, 96))]
    everywhere, margin = torch.full((16, 24), 20.0), block((9, 16), (13, 24))
    set_teacher_queries(model, [[(0, everywhere), (1, margin)]] * 2, (16, 24))
    whole, half = model.pseudo_label(torch.randn(2, 3, 64, 96), samples)
    assert whole.gt_instances.labels.tolist() == [0, 1]
    assert half.gt_instances.labels.tolist() == [0]
    assert torch.equal(half.gt_instances.masks[0], block((0, 8), (0, 12)) > 0)


class Negative(nn.Module):
    def forward(self, images, sizes):
        assert sizes == [(64, 96)] * 2
        return -images


def test_only_unlabelled_images_get_the_strong_view(monkeypatch):
    model = guided()
    model.strong_view = Negative()
    shown = set_teacher_queries(model, [[(3, block((2, 8), (1, 5)))]] * 2, (16, 24))
    seen = []
    losses = model.student.losses

    def record(images, parts):
        seen.append((images, [each for _, samples in parts for each in samples]))
        return losses(images, parts)

    monkeypatch.setattr(model.student, 'losses', record)
    inputs, samples = both()
    model.loss(inputs, samples)
    ((images, given),) = seen
    assert torch.equal(images[:2], inputs['sup'])
    assert torch.equal(images[2:], -inputs['unsup'])
    assert torch.equal(shown[0], inputs['unsup'])
    assert [len(each.gt_instances) for each in given] == [3, 3, 1, 1]


def test_strong_view_has_the_published_settings():
    view = guided().strong_view
    assert view.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    jitter, grayscale, blur = view.transform.transforms
    assert (jitter.p, grayscale.p, blur.p) == (0.8, 0.2, 0.5)
    assert jitter.transforms[0].hue == (-0.1, 0.1)
    assert list(blur.transforms[0].sigma) == [0.1, 2.0]


def test_unlabelled_losses_are_weighted_by_two():
    """Compare with the same pseudo-labels given offline, on the weak view."""
    model = guided(strong_view=None).eval()
    set_teacher_queries(
        model, [[(3, block((2, 8), (1, 5)))], [(5, block((4, 9), (9, 20)))]], (16, 24)
    )
    inputs, samples = both()
    found = seeded(model.loss, inputs, samples)
    offline = copy.deepcopy(samples)
    for each, label, mask in zip(
        offline['unsup'],
        (3, 5),
        (block((2, 8), (1, 5)), block((4, 9), (9, 20))),
        strict=True,
    ):
        each.gt_instances = InstanceData(
            labels=torch.tensor([label]), masks=mask[None] > 0
        )
    model.teacher, model.semi_weight = None, 1.0
    expected = seeded(model.loss, inputs, offline)
    for name, value in expected.items():
        factor = 2 if name.startswith('unsup_') else 1
        torch.testing.assert_close(found[name], factor * value)
    watched = {name for name in found if name.startswith('teacher_')}
    assert found.keys() - watched == expected.keys()
    assert not any('loss' in name for name in watched)  # mmengine would add it


def test_low_resolution_masks_match_full_masks():
    """Check that points are relative: only the edges of a mask become softer."""
    model = guided(strong_view=None).eval()
    head = model.student.panoptic_head
    head.num_points, head.importance_sample_ratio = 4096, 0.0  # no preference for edges
    images, samples = batch(1)
    classes, masks = head(model.student.backbone(images), samples)
    # The prediction fits the rectangle, so a misplaced target has a high loss.
    logits = block((2, 14), (3, 21))[None, None] / 4
    masks = [FactoredMasks(logits.expand(1, 12, -1, -1))] * len(masks)

    def loss(mask):
        samples[0].gt_instances = InstanceData(
            labels=torch.tensor([3]), masks=mask[None]
        )
        (losses,) = seeded(head.losses, [(slice(None), samples)], classes, masks)
        return float(losses['loss_dice'])

    small = block((2, 14), (3, 21)) > 0
    full = small.repeat_interleave(4, 0).repeat_interleave(4, 1)
    corner = torch.zeros(64, 96, dtype=torch.bool)
    corner[:16, :24] = small  # padded to the image's size, not stretched to it
    assert loss(small) == pytest.approx(loss(full), abs=0.15)
    assert loss(corner) > loss(full) + 2


@pytest.mark.parametrize('rule', [dict(score_thr=0.7), None])
def test_batch_without_pseudo_labels_adds_zero_loss(rule):
    model = guided(query_rule=rule, score_thr=2.0).train()
    if rule:
        set_teacher_queries(model, [[], [(None, block((2, 8), (1, 5)))]], (16, 24))
    losses = model.loss(*both())
    unlabelled = [value for name, value in losses.items() if 'unsup_' in name]
    assert len(unlabelled) > 3
    assert all(float(value.detach()) == 0 for value in unlabelled)
    sum(unlabelled).backward(retain_graph=True)
    assert all(not p.grad.any() for p in model.student.parameters())
    # Each parameter has a gradient, so distributed training need not search for unused
    # ones.
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(p.grad.isfinite().all() for p in model.student.parameters())
    assert float(losses['teacher_labels_per_image']) == 0
    assert float(losses['teacher_share_kept']) == 0
    assert float(losses['teacher_recall']) == 0
    assert 'teacher_precision' not in losses


def test_disabled_labeling_trains_on_labels_only():
    """Check that annotations of unlabelled images are not used either."""
    model = guided().train()
    shown = set_teacher_queries(model, [[(3, block((2, 8), (1, 5)))]] * 2, (16, 24))
    model.labeling_enabled = False
    losses = model.loss(*both())
    unlabelled = [value for name, value in losses.items() if 'unsup_' in name]
    sum(unlabelled).backward()
    assert not any(value.detach().any() for value in unlabelled)
    assert all(not p.grad.any() for p in model.student.parameters())
    assert shown == []
    assert not any(name.startswith('teacher_') for name in losses)


def test_one_pseudo_label_makes_all_images_count():
    """Check that unmatched queries then learn "no object", as published."""
    model = guided()
    set_teacher_queries(model, [[], [(3, block((2, 8), (1, 5)))]], (16, 24))
    losses = model.loss(*both())
    assert float(losses['unsup_loss_cls']) > 0
    assert float(losses['unsup_loss_dice']) > 0


def test_sources_of_different_size_are_labelled_with_padding():
    model = guided(query_rule=dict(score_thr=0.0, min_area=0.0))
    labelled = []
    label = model.pseudo_label
    model.pseudo_label = lambda *args: labelled.extend(label(*args)) or labelled
    losses = model.loss(*both(batch(2, 64, 96), batch(1, 96, 64)))
    assert all(value.isfinite() for value in losses.values())
    masks = labelled[0].gt_instances.masks
    assert masks.shape[1:] == (24, 24)
    assert masks.any()
    assert not masks[:, :, 16:].any()


def test_teacher_statistics_use_the_annotations():
    model = guided()
    images, samples = batch(2)
    truth = samples[0].gt_instances.masks.masks[:, 2::4, 2::4]
    right = torch.where(torch.from_numpy(truth[1]).bool(), 20.0, -20.0)
    set_teacher_queries(
        model,
        [
            [(1, right), (2, right), (1, right), (None, right)],
            [(4, block((0, 4), (0, 4)))],
        ],
        (16, 24),
    )
    samples[1].gt_instances = InstanceData(  # an image without annotations
        labels=torch.zeros(0, dtype=torch.int64),
        masks=BitmapMasks(truth[:0], *truth.shape[1:]),
    )
    losses = model.loss(*both(unsup=(images, samples)))
    found = {n: float(v) for n, v in losses.items() if n.startswith('teacher_')}
    assert found == pytest.approx(
        dict(
            teacher_labels_per_image=2.0,
            teacher_share_kept=0.5,
            teacher_recall=1 / 3,
            teacher_precision=1 / 3,
        )
    )
    del samples[0].gt_instances, samples[1].gt_instances
    labeled = model.pseudo_label(images, samples)
    assert teacher_stats(images, labeled, samples).keys() == {
        'teacher_labels_per_image',
        'teacher_share_kept',
    }


def test_the_teacher_labels_in_full_precision():
    model = guided()
    dtypes = []
    forward = model.teacher._forward

    def record(*args):
        classes, masks = forward(*args)
        dtypes.append({factor.dtype for factor in masks[-1].factors})
        return classes, masks

    model.teacher._forward = record
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(*both())
    assert dtypes == [{torch.float32}]
    assert all(value.isfinite() for value in losses.values())


def test_predict_on_selects_student_or_teacher():
    model = guided().eval()
    images, samples = batch(2)
    scores = {}
    for name in ('student', 'teacher'):
        expected = getattr(model, name).predict(images, copy.deepcopy(samples))
        model.semi_test_cfg['predict_on'] = name
        found = model.predict(images, copy.deepcopy(samples))
        scores[name] = [each.pred_instances.scores for each in found]
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.pred_instances.scores, b.pred_instances.scores)
    assert not torch.equal(scores['student'][0], scores['teacher'][0])
    assert guided(predict_on='teacher').semi_test_cfg == dict(predict_on='teacher')


def test_options_that_need_a_teacher_raise_without_one():
    with pytest.raises(ValueError, match='give such a teacher, or query_rule=None'):
        wrapper(query_rule=dict(score_thr=0.7))
    for choice in ('teacher', 'both'):
        with pytest.raises(ValueError, match=f'predict_on={choice!r} must be'):
            wrapper(predict_on=choice)


def test_teacher_without_type_is_built_like_the_student(tmp_path):
    """Check that it reads no file of the student and has no training-only parts."""
    student = student_config()
    assert student.pixel_contrast is not None
    student.backbone.init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    file = str(tmp_path / 'teacher.pth')
    expected = MODELS.build(student_config(**BARE)).state_dict()
    torch.save(dict(state_dict=expected), file)
    model = wrapper(teacher=dict(checkpoint=file), student=student)
    assert student.backbone.init_cfg.checkpoint == 'nowhere.pth'
    assert not model.teacher.init_cfg.keys() - {'type', 'checkpoint'}
    model.teacher.init_weights()
    found = model.teacher.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_teacher_without_checkpoint_starts_at_random():
    model = wrapper(teacher=dict(checkpoint=None))
    assert model.teacher.init_cfg is None
    assert type(model.teacher) is type(model.student)


def test_teacher_without_type_takes_only_a_checkpoint():
    for teacher in (dict(init_cfg=None), dict(checkpoint='a.pth', num_classes=8)):
        with pytest.raises(ValueError, match=r'no type: give dict\(checkpoint=FILE\)'):
            wrapper(teacher=teacher)
