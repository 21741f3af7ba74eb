"""Test the student detector and its wrapper on a tiny real model."""

import copy

import pytest
import torch
from gloo_ranks import two_ranks
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine import Config
from tiny_student import BASE, batch, both, sample, seeded, student_config, wrapper


def test_joint_pass_gives_each_part_its_own_loss(same_points):
    student = MODELS.build(student_config()).eval()  # no batch statistics
    images, samples = batch(4)
    first, second = slice(None, 3), slice(3, None)
    parts = [(first, samples[first]), (second, samples[second])]
    both, _ = student.losses(images, parts)
    for found, (part, of_part) in zip(both, parts, strict=True):
        (expected,), _ = student.losses(images[part], [(slice(None), of_part)])
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)


def mask_losses(student, images, samples):
    found = student.loss(images, samples)
    return {name: v for name, v in found.items() if 'mask' in name or 'dice' in name}


def test_images_without_masks_do_not_change_mask_losses(same_points):
    """Normalise by the number of masks in the batch, as published."""
    student = MODELS.build(student_config(pixel_contrast=None)).eval()
    images = torch.randn(4, 3, 64, 96)
    empty = [sample(64, 96, 0) for _ in range(3)]
    alone = mask_losses(student, images[:1], [sample(64, 96, 2)])
    found = mask_losses(student, images, [sample(64, 96, 2), *empty])
    assert len(found) == 6
    for name, value in alone.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)
    without = mask_losses(student, images[1:], empty)
    assert all(value == 0 for value in without.values())


def test_mask_losses_are_normalised_over_ranks(same_points, tmp_path):
    """Divide by the mean number of masks per rank, here 1 or 0.5, but at least by 1."""
    student = MODELS.build(student_config(pixel_contrast=None)).eval()
    images = torch.randn(1, 3, 64, 96)
    alone = {n: mask_losses(student, images, [sample(64, 96, n)]) for n in (1, 2)}

    def work(rank):
        for count in (1, 2):
            given = [sample(64, 96, 0 if rank else count)]
            found = mask_losses(student, images, given)
            for name, value in alone[count].items():
                expected = torch.zeros_like(value) if rank else value * count
                torch.testing.assert_close(
                    found[name].sum(), expected.sum(), rtol=1e-4, atol=1e-4
                )

    assert two_ranks(work, tmp_path) == [0, 0]


def test_semi_weight_scales_only_unlabelled_losses():
    model = wrapper().eval()
    inputs, samples = both()
    once = seeded(model.loss, inputs, samples)
    model.semi_weight = 3.0
    thrice = seeded(model.loss, inputs, samples)
    assert {name.split('_')[0] for name in once} == {'sup', 'unsup', 'loss'}
    for name, value in once.items():
        factor = 3 if name.startswith('unsup_') else 1
        torch.testing.assert_close(thrice[name], factor * value)


def test_loss_weight_scales_the_pixel_contrast():
    model = wrapper().eval()
    inputs, samples = both()
    first = seeded(model.loss, inputs, samples)['loss_pxl']
    model.student.pixel_contrast.contrast.loss_weight *= 5
    second = seeded(model.loss, inputs, samples)['loss_pxl']
    torch.testing.assert_close(second, 5 * first)
    assert first > 0


def test_contrast_trains_only_backbone_and_projection():
    model = wrapper()
    inputs, samples = both()
    model.loss(inputs, samples)['loss_pxl'].backward()
    touched = {
        n.split('.')[1] for n, p in model.named_parameters() if p.grad is not None
    }
    assert touched == {'backbone', 'pixel_contrast'}


def test_one_step_gives_every_parameter_a_gradient():
    """Check that distributed training need not search for unused parameters."""
    model = wrapper()
    inputs, samples = both()
    sum(model.loss(inputs, samples).values()).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    assert not idle


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_network_that_is_not_finite_has_such_a_loss(bad):
    """The step can then be skipped; scipy would raise on such costs."""
    model = wrapper()
    head = model.student.panoptic_head
    with torch.no_grad():
        head.mask_embed[-1].bias[0] = bad
        head.cls_embed.bias[0] = bad
    losses = model.loss(*both())
    assert not all(value.isfinite() for value in losses.values())


def test_images_without_instances_can_be_trained_on():
    model = wrapper()
    empty = torch.randn(2, 3, 64, 96), [sample(64, 96, 0) for _ in range(2)]
    losses = model.loss(*both(unsup=empty))
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    masks = [v for n, v in losses.items() if n.startswith('unsup_') and 'cls' not in n]
    assert all(float(value) == 0 for value in masks)


def test_branches_are_padded_to_the_same_size():
    model = wrapper().eval()
    labeled, unlabeled = batch(2, 64, 96), batch(1, 96, 64)
    losses = model.loss(*both(labeled, unlabeled))
    assert torch.isfinite(sum(losses.values()))
    for item in [*labeled[1], *unlabeled[1]]:
        assert item.gt_instances.masks.masks.shape[1:] == (96, 96)
        assert item.batch_input_shape == (96, 96)


def test_batch_without_unlabelled_images_raises():
    """Use a batch as collated when batch_size does not fit the sampler's ratio."""
    images = [torch.zeros(3, 64, 96, dtype=torch.uint8)] * 2
    data = dict(
        inputs=dict(sup=images, unsup=[None, None]),
        data_samples=dict(sup=batch(2)[1], unsup=[None, None]),
    )
    with pytest.raises(ValueError, match=r'without unlabelled images.*source_ratio'):
        wrapper().data_preprocessor(data, True)


def test_other_images_candidates_need_two_images():
    config = student_config(**{'pixel_contrast.loss.candidates': 'other_images'})
    with pytest.raises(ValueError, match='at least 2 images per device'):
        MODELS.build(config).loss(*batch(1))


def batch_copy(images, samples):
    return images.clone(), copy.deepcopy(samples)


def test_strong_view_does_not_change_running_statistics():
    model = MODELS.build(student_config())
    images, samples = batch()
    plain = copy.deepcopy(model)
    plain.pixel_contrast = None
    plain.loss(*batch_copy(images, samples))
    before = dict(plain.backbone.named_buffers())
    model.loss(images, samples)
    for name, value in model.backbone.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            assert torch.equal(value, before[name]), name
    assert all(
        m.momentum == 0.1
        for m in model.backbone.modules()
        if isinstance(m, torch.nn.BatchNorm2d)
    )


def test_one_image_per_device_has_a_contrast_loss():
    losses = MODELS.build(student_config()).loss(*batch(1))
    assert torch.isfinite(losses['loss_pxl'])
    assert losses['loss_pxl'] > 0


def test_online_teacher_labels_with_its_predictions():
    teacher = student_config(pixel_contrast=None)
    model = wrapper(teacher=teacher)
    model.train()
    assert not model.teacher.training
    assert not any(p.requires_grad for p in model.teacher.parameters())
    images, samples = batch(2)
    # Random mask features find nothing. Scale them, so that some pixels are above the
    # mask threshold.
    for parameter in model.teacher.panoptic_head.mask_embed.parameters():
        parameter.data.mul_(3)
    bare = [DetDataSample(metainfo=s.metainfo) for s in samples]
    answers = model.teacher.predict(images, bare, rescale=False)
    scores = [each.pred_instances.scores for each in answers]
    model.score_thr = min(float(each.median()) for each in scores)
    labelled = model.pseudo_label(images, samples)
    for made, expected in zip(labelled, answers, strict=True):
        found = expected.pred_instances
        kept = found[found.scores > model.score_thr]
        assert len(kept) > 0
        assert torch.equal(made.gt_instances.labels, kept.labels)
        assert torch.equal(made.gt_instances.masks, kept.masks)
    before = copy.deepcopy(model.teacher.state_dict())
    sum(model.loss(*both(unsup=(images, samples))).values()).backward()
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())


@pytest.mark.parametrize('name', ['student_synthscapes', 'teacher_synthscapes'])
@pytest.mark.parametrize('sizes', [[(50, 90)], [(33, 65), (64, 40)], [(64, 128)]])
def test_masks_have_the_size_of_the_input_image(name, sizes):
    model = MODELS.build(Config.fromfile(f'{BASE}/{name}.py').model).eval()
    data = dict(
        inputs=[torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in sizes],
        data_samples=[
            DetDataSample(metainfo=dict(img_shape=size, ori_shape=size))
            for size in sizes
        ],
    )
    for result, size in zip(model.test_step(data), sizes, strict=True):
        assert result.pred_instances.masks.shape[1:] == size


def test_dinov2_student_accepts_any_size():
    config = Config.fromfile(f'{BASE}/student_dpt256.py').model
    config.backbone.arch = dict(
        embed_dims=24, num_layers=12, num_heads=2, feedforward_channels=24
    )
    config.panoptic_head.in_channels = [24] * 4
    config.pixel_contrast.in_channels = 24
    config.panoptic_head.transformer_decoder.num_layers = 1
    model = MODELS.build(config).eval()
    size = (45, 100)  # not a multiple of 14
    data = dict(
        inputs=[torch.randint(0, 255, (3, *size), dtype=torch.uint8)],
        data_samples=[DetDataSample(metainfo=dict(img_shape=size, ori_shape=size))],
    )
    assert model.test_step(data)[0].pred_instances.masks.shape[1:] == size
    losses = model.train().loss(torch.randn(2, 3, 56, 112), batch(2, 56, 112)[1])
    assert torch.isfinite(sum(losses.values()))
