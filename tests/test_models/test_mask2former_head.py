"""Test that the head with factored masks is mmdet's head, only faster and leaner."""

import copy

import numpy as np
import pytest
import torch
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from tiny_student import batch, sample, seeded, student_config
from torch.utils._python_dispatch import TorchDispatchMode

from mmcast.models.dense_heads import (
    InstanceFusionHead,
    instance_fusion_head,
    mask2former_head,
)
from mmcast.models.dense_heads.masked_attention import masked_decoder_layer
from mmcast.models.dense_heads.matching import match
from mmcast.models.factored_masks import FactoredMasks
from mmcast.testing import stock_model

BASE = 'configs/mmcast/_base_/models'


@pytest.fixture
def in_float64(monkeypatch, same_points):
    """Compute in float64, also where mmdet asks for float32."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, 'float', torch.Tensor.double)
    yield
    torch.set_default_dtype(torch.float32)


def tiny(**changes):
    return student_config(pixel_contrast=None, **changes)


def deformable():
    """Mask2Former's own ResNet-50 with its deformable encoder, made small."""
    config = Config.fromfile(f'{BASE}/student_r50.py').model
    config.pixel_contrast = config.backbone.init_cfg = None
    config.train_cfg.num_points, config.test_cfg.max_per_image = 64, 50
    head = config.panoptic_head
    head.num_queries, head.transformer_decoder.num_layers = 12, 4
    head.pixel_decoder.encoder.num_layers = 1
    return config


def without_upsampling():
    return tiny(**{'panoptic_head.pixel_decoder.upsample_last': False})


def three_images():
    """A batch with an image without labels and one with fewer than the others."""
    torch.manual_seed(0)
    images, samples = batch(3)
    samples[1].gt_instances = samples[1].gt_instances[:0]
    samples[2].gt_instances = samples[2].gt_instances[:2]
    return images.to(torch.get_default_dtype()), samples


def losses_and_gradients(model, images, samples):
    (losses,), _ = model.losses(images, [(slice(None), samples)])
    model.zero_grad()
    sum(losses.values()).backward()
    losses = {name: value.detach().reshape(()) for name, value in losses.items()}
    learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return losses, {n: p.grad.clone() for n, p in learning}


STUDENTS = {'dpt': tiny, 'dpt_plain': without_upsampling, 'deformable': deformable}


@pytest.mark.parametrize('student', STUDENTS)
def test_everything_equals_mmdets_head_in_float64(in_float64, student):
    torch.manual_seed(0)
    model = MODELS.build(STUDENTS[student]()).double()
    stock = stock_model(model)
    images, samples = three_images()
    ours, theirs = (
        losses_and_gradients(each.train(), images, samples) for each in (model, stock)
    )
    assert list(ours[0]) == list(theirs[0])
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-10, atol=0)
    top = max(grad.abs().max() for grad in theirs[1].values())
    for name, grad in theirs[1].items():
        # Gradients that are zero but for rounding have no relative error.
        torch.testing.assert_close(
            ours[1][name], grad, rtol=1e-10, atol=1e-12 * float(top)
        )
    model.eval()
    with torch.no_grad():
        found, expected = (
            [each.pred_instances for each in m.predict(images, copy.deepcopy(samples))]
            for m in (model, stock)
        )
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.masks, other.masks)
        assert torch.equal(one.labels, other.labels)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-10, atol=0)
        assert torch.equal(one.bboxes.double(), other.bboxes.double())
    assert any(one.masks.any() for one in found)


def test_losses_and_gradients_equal_mmdets_in_float32(same_points):
    torch.manual_seed(0)
    model = MODELS.build(tiny()).train()
    ours, theirs = (
        losses_and_gradients(each, *three_images())
        for each in (model, stock_model(model))
    )
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=0)
    for name, grad in theirs[1].items():
        error = (ours[1][name] - grad).norm()
        assert error <= 1e-4 * grad.norm() + 1e-5, name


def test_mmdet_can_drive_the_head(same_points):
    """Use the calls of mmdet's own detector: loss, and predict with dense masks."""
    model = MODELS.build(tiny()).eval()
    images, samples = batch()
    features = model.extract_feat(images)
    expected, _ = model.losses(images, [(slice(None), samples)])
    found = model.panoptic_head.loss(features, copy.deepcopy(samples))
    torch.testing.assert_close(found, expected[0])
    classes, masks = model.panoptic_head.predict(features, samples)
    stock = stock_model(model)
    torch.testing.assert_close(
        (classes, masks), stock.panoptic_head.predict(features, samples)
    )
    dense = model.panoptic_fusion_head.predict(classes, masks, samples)
    expected = model.predict(images, samples, rescale=False)
    for one, other in zip(dense, expected, strict=True):
        found = one['ins_results']
        assert torch.equal(found.labels, other.pred_instances.labels)
        torch.testing.assert_close(found.scores, other.pred_instances.scores)


def test_checkpointed_layers_give_the_same_gradients(same_points, monkeypatch):
    config = tiny()
    config.panoptic_head.transformer_decoder.layer_cfg.cross_attn_cfg.attn_drop = 0.3
    model = MODELS.build(config).train()
    calls = []

    def counted(layer, *args):
        calls.append(layer)
        return masked_decoder_layer(layer, *args)

    monkeypatch.setattr(mask2former_head, 'masked_decoder_layer', counted)
    plain = seeded(losses_and_gradients, model, *three_images())
    layers = len(calls)
    model.panoptic_head.with_cp = True
    again = seeded(losses_and_gradients, model, *three_images())
    assert len(calls) == 3 * layers > 0  # the second time, forward and in backward
    torch.testing.assert_close(again, plain)
    assert sum(plain[0].values()) != sum(
        losses_and_gradients(model, *three_images())[0].values()
    )  # another dropout


def test_weights_have_mmdets_names():
    config = Config.fromfile(f'{BASE}/student_r50.py').model
    config.pixel_contrast = None
    ours = MODELS.build(config).panoptic_head
    theirs = Mask2FormerHead(
        num_things_classes=8,
        num_stuff_classes=0,
        **{k: v for k, v in config.panoptic_head.items() if k != 'type'}
        | dict(
            loss_cls=ConfigDict(config.panoptic_head.loss_cls, class_weight=[1] * 9)
        ),
    )
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes


def test_half_precision_does_not_overflow():
    """Use 16 masks of 12,544 points: their product is above float16's 65,504."""
    model = MODELS.build(tiny(**{'train_cfg.num_points': 12544})).train()
    images = torch.randn(4, 3, 64, 96)
    parts = [(slice(None), [sample(64, 96, 4) for _ in range(4)])]
    with torch.no_grad():
        (expected,), _ = seeded(model.losses, images, parts)
        with torch.autocast('cpu', torch.float16):
            (found,), _ = seeded(model.losses, images, parts)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].float(), value, rtol=2e-2, atol=0)


def test_confident_masks_are_matched_in_half_precision():
    """Use logits of 20 all over an image: their sum over the points is 250,000."""
    assigner = MODELS.build(tiny()).panoptic_head.assigner
    logits = torch.full((1, 4, 6, 8), -20.0)
    logits[0, 2] = 20
    logits[0, 1, :, :4] = 20
    masks = torch.ones(2, 24, 32, dtype=torch.bool)
    masks[1, :, 16:] = False
    target = InstanceData(labels=torch.tensor([1, 0]), masks=masks)
    classes = [torch.zeros(1, 4, 9, dtype=torch.float16)]
    with torch.autocast('cpu', torch.float16):
        (((query, instance),),) = match(
            assigner, classes, [FactoredMasks(logits.half())], [target], 12544
        )
    assert query.tolist() == [1, 2]
    assert instance.tolist() == [1, 0]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_costs_do_not_depend_on_autocast(dtype, monkeypatch):
    assigner = MODELS.build(tiny()).panoptic_head.assigner
    seen = []
    monkeypatch.setattr(
        'mmcast.models.dense_heads.matching.linear_sum_assignment',
        lambda cost: seen.append(cost) or ([0, 1], [0, 1]),
    )
    masks = torch.rand(2, 24, 32) > 0.5
    target = InstanceData(labels=torch.tensor([1, 0]), masks=masks)
    classes = [torch.randn(1, 4, 9)]
    logits = [FactoredMasks(8 * torch.randn(1, 3, 6, 8), torch.randn(1, 4, 3))]
    for enabled in (True, False):
        with torch.autocast('cpu', dtype, enabled=enabled):
            seeded(match, assigner, classes, logits, [target], 12544)
    np.testing.assert_array_equal(*seen)


class Watch(TorchDispatchMode):
    """Record each operation that waits for the device, and the largest result."""

    WAITS = (
        *('_local_scalar_dense', 'nonzero', '_unique', 'unique', 'masked_select'),
        *('is_nonzero', 'equal', 'repeat_interleave'),
    )

    def __init__(self, least):
        super().__init__()
        self.least, self.large, self.waits = least, [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.__name__
        if any(name.startswith(wait) for wait in self.WAITS):
            self.waits.append(name)
        places = args[1] if name.startswith('index') and len(args) > 1 else ()
        if isinstance(places, list | tuple) and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in places
        ):
            self.waits.append(name)
        shape = out.shape if isinstance(out, torch.Tensor) else ()
        if (
            len(shape) == 4
            and shape[1] >= self.least[0]
            and shape[2:] == self.least[1:]
        ):
            self.large.append((name, tuple(shape)))
        return out


def test_no_layer_computes_all_masks():
    model = MODELS.build(tiny(**{'panoptic_head.num_queries': 40})).train()
    images, samples = batch(2)
    _, masks = model.panoptic_head(model.extract_feat(images), samples)
    assert isinstance(masks[-1], FactoredMasks)
    queries, height, width = masks[-1].shape[1:]
    with Watch((queries, height, width)) as watch:
        (losses,), _ = model.losses(images, [(slice(None), samples)])
        sum(losses.values()).backward()
        with torch.no_grad():
            model.eval().predict(images, samples)
    assert watch.large == []
    with Watch((queries, height, width)) as watch:
        stock_model(model).losses(images, [(slice(None), samples)])
    assert len(watch.large) >= len(masks)


def test_a_step_waits_for_the_device_once(monkeypatch):
    """Count what would make a GPU wait: one transfer of all matching costs.

    The cells' places and the strong view's random numbers are made on the host, so they
    are left out here.
    """
    model = MODELS.build(student_config()).train()
    images, samples = batch(4)
    contrast = model.pixel_contrast
    sizes = [each.img_shape for each in samples]
    grid = contrast.grid(model.extract_feat(images), sizes, images.shape[2:])
    monkeypatch.setattr(contrast, 'grid', lambda *_: grid)
    monkeypatch.setattr(contrast.strong_view, 'forward', lambda x, sizes: x.flip(1))
    for each in samples:  # masks are on the device already
        instances = each.gt_instances
        masks = instances.masks.to_tensor(torch.bool, images.device)
        each.gt_instances = InstanceData(labels=instances.labels, masks=masks)
    transfers, waits = [], []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(
        torch.Tensor, 'cpu', lambda x: transfers.append(x.shape) or cpu(x)
    )
    for name in ('tolist', 'item', 'numpy'):
        real = getattr(torch.Tensor, name)

        def record(x, real=real, name=name):
            waits.append(name)
            return real(x)

        monkeypatch.setattr(torch.Tensor, name, record)
    parts = [(slice(None, 2), samples[:2]), (slice(2, None), samples[2:])]
    with Watch((10**9,)) as watch:
        by_part, of_batch = model.losses(images, parts)
        total = sum(v for losses in (*by_part, of_batch) for v in losses.values())
        total.backward()
    assert len(transfers) == 1
    assert watch.waits == []
    # Of the costs, which are on the host by then: one for each layer and image.
    assert waits == ['numpy'] * (4 * 3)


def fusion(**test_cfg):
    settings = dict(panoptic_on=False, instance_on=True, max_per_image=7)
    return InstanceFusionHead(
        num_things_classes=3,
        num_stuff_classes=0,
        test_cfg=ConfigDict({**settings, **test_cfg}),
    )


@pytest.mark.parametrize('max_pixels', [1, 2 * 70 * 99, 10**6])
@pytest.mark.parametrize('rescale', [True, False])
def test_instances_equal_mmdets(max_pixels, rescale, monkeypatch):
    """Use padding, resizing, queries with several classes, and an empty mask."""
    from mmdet.models import MaskFormerFusionHead

    torch.manual_seed(0)
    classes = torch.randn(2, 5, 4)
    classes[:, 0, :2] += 4
    masks = torch.nn.functional.interpolate(torch.randn(2, 5, 3, 4), (12, 16)) * 3
    masks[0, 0] = -1
    samples = [sample(41, 60, padded=(48, 64)), sample(48, 64)]
    samples[0].set_metainfo(dict(ori_shape=(70, 99)))
    monkeypatch.setattr(instance_fusion_head, 'most_pixels', lambda _: max_pixels)
    ours = fusion()
    stock = MaskFormerFusionHead(3, 0, test_cfg=ours.test_cfg)
    dense = torch.nn.functional.interpolate(masks, (48, 64), mode='bilinear')
    expected = stock.predict(classes, dense, samples, rescale=rescale)
    found = ours.predict(classes, masks, samples, rescale=rescale)
    for one, other in zip(found, expected, strict=True):
        one, other = one['ins_results'], other['ins_results']
        for name in ('labels', 'bboxes', 'masks'):
            assert torch.equal(one[name], other[name]), name
            assert one[name].dtype == other[name].dtype
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.class_scores * one.mask_qualities, other.scores)
        chances = classes[0 if one is found[0]['ins_results'] else 1].softmax(-1)
        assert torch.isin(one.class_scores, chances).all()
    assert not found[0]['ins_results'].masks.flatten(1).any(1).all()


def test_classes_of_stuff_raise():
    with pytest.raises(ValueError, match='num_stuff_classes=0'):
        InstanceFusionHead(
            num_things_classes=3,
            num_stuff_classes=1,
            test_cfg=ConfigDict(panoptic_on=False, instance_on=True),
        )


@pytest.mark.parametrize('setting', ['panoptic_on', 'semantic_on'])
def test_other_results_than_instances_raise(setting):
    with pytest.raises(ValueError, match='instances only'):
        fusion(**{setting: True})


def test_other_fusion_heads_raise():
    config = tiny(**{'panoptic_fusion_head.type': 'MaskFormerFusionHead'})
    with pytest.raises(ValueError, match="type='InstanceFusionHead'"):
        MODELS.build(config)


def test_backbone_and_pixel_decoder_can_be_compiled(same_points):
    model = MODELS.build(tiny()).train()
    images, samples = three_images()
    expected, _ = losses_and_gradients(model, images, samples)
    for owner, name in (
        (model, 'backbone'),
        (model.panoptic_head, 'pixel_decoder'),
    ):
        compiled = torch.compile(
            getattr(owner, name), backend='eager', fullgraph=name != 'backbone'
        )
        setattr(owner, name, compiled)
    (found,), _ = model.losses(images, [(slice(None), samples)])
    for name, value in expected.items():
        torch.testing.assert_close(found[name].detach().reshape(()), value)


def test_other_assigners_raise():
    config = tiny()
    config.train_cfg.assigner = dict(
        type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5
    )
    with pytest.raises(ValueError, match='HungarianAssigner'):
        MODELS.build(config)
