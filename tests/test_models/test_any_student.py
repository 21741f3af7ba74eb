"""Test the wrapper with every kind of instance segmenter of MMDetection."""

import copy

import pytest
import torch
from gloo_ranks import two_ranks
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from stock_students import draw_alike, instances, stock_wrapper, two_sources
from torch import nn

from mmcast.models.detectors.student import class_count
from mmcast.models.detectors.two_sources import pad_and_join
from mmcast.models.detectors.with_classes import with_classes
from mmcast.models.pseudo_labels import mask_boxes
from mmcast.testing import FAMILIES, stock_detector

# One kind of head each.
KINDS = ('mask_rcnn', 'rtmdet_ins', 'condinst', 'solov2', 'mask2former')


def stock_losses_of_parts(model, inputs, samples):
    """Return the detector's own losses of each part, as a stock run would have them."""
    joined = pad_and_join(
        [inputs['sup'], inputs['unsup']],
        [*samples['sup'], *samples['unsup']],
        pad_masks=not hasattr(model.student, 'roi_head'),
    )
    expected = {}
    for branch, part in (('sup', slice(0, 2)), ('unsup', slice(2, 3))):
        for name, value in model.student.loss(joined[part], samples[branch]).items():
            if isinstance(value, list):
                value = sum(each.mean() for each in value)
            expected[f'{branch}_{name}'] = value
    return expected


def compare_with_stock(model, inputs, samples, **tolerance):
    draw_alike(model.student)
    again = copy.deepcopy((inputs, samples))
    found = model.loss(inputs, samples)
    expected = stock_losses_of_parts(model, *again)
    assert found.keys() == expected.keys()
    assert any(value > 0 for name, value in expected.items() if 'loss' in name)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **tolerance)
    return found


# A convolution of three images and one of two differ in the last bits.
ROUNDING = dict(rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('family', FAMILIES)
def test_each_part_has_the_stock_detectors_own_losses(family):
    """Images of two sizes, one of them without an object."""
    model = stock_wrapper(family).eval()
    compare_with_stock(model, *two_sources(), **ROUNDING)


@pytest.mark.parametrize('family', KINDS)
def test_a_part_without_objects(family):
    """PointRend alone cannot do it: its stock loss raises, "RoI is a empty tensor"."""
    model = stock_wrapper(family).eval()
    found = compare_with_stock(model, *two_sources(unlabeled=0), **ROUNDING)
    sum(v for k, v in found.items() if 'loss' in k).backward()


@pytest.mark.parametrize('family', KINDS[1:])
def test_automatic_mixed_precision(family):
    """mmcv has no RoIAlign in bfloat16 for a processor, so Mask R-CNN is left out."""
    model = stock_wrapper(family).eval()
    with torch.autocast('cpu', torch.bfloat16):
        compare_with_stock(model, *two_sources(), rtol=0.02, atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('family', KINDS)
def test_automatic_mixed_precision_on_a_gpu(family):
    model = stock_wrapper(family).eval().cuda()
    inputs, samples = two_sources()
    inputs = {branch: images.cuda() for branch, images in inputs.items()}
    samples = {branch: [s.cuda() for s in every] for branch, every in samples.items()}
    with torch.autocast('cuda'):
        compare_with_stock(model, inputs, samples, rtol=0.02, atol=0.02)


def test_two_ranks(tmp_path):
    """Each rank's losses are normalised over both, as stock ones are."""

    def work(rank):
        for family in KINDS:
            model = stock_wrapper(family).eval()
            counts = (1, 0) if rank else (3, 2)
            compare_with_stock(model, *two_sources(1 + rank, counts), **ROUNDING)

    assert two_ranks(work, tmp_path) == [0, 0]


@pytest.mark.parametrize('family', KINDS)
def test_one_step_trains_every_weight_that_a_stock_step_trains(family):
    """Distributed training need not search for more unused parameters."""
    model, alone = stock_wrapper(family), stock_wrapper(family).student
    inputs, samples = two_sources(labeled=(3, 1))
    stock = alone.loss(inputs['sup'], copy.deepcopy(samples['sup']))
    loss, _ = alone.parse_losses(stock)
    loss.backward()
    loss, _ = model.parse_losses(model.loss(inputs, samples))
    loss.backward()
    trained = {n for n, p in model.student.named_parameters() if p.grad is not None}
    assert trained == {n for n, p in alone.named_parameters() if p.grad is not None}
    assert all(
        p.grad.isfinite().all() for p in model.parameters() if p.grad is not None
    )


@pytest.mark.parametrize('family', KINDS)
def test_gradients_accumulate(family):
    """A batch twice, accumulated, is a step on it once."""
    trained = []
    for counts in (1, 2):
        model = stock_wrapper(family).eval()
        draw_alike(model.student)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        wrapper = OptimWrapper(optimizer, accumulative_counts=counts)
        wrapper.initialize_count_status(model, 0, counts)
        before = copy.deepcopy(model.state_dict())
        for _ in range(counts):
            with wrapper.optim_context(model):
                loss, _ = model.parse_losses(model.loss(*two_sources()))
            wrapper.update_params(loss)
        trained.append(model.state_dict())
    assert any(
        not torch.equal(before[name], value) for name, value in trained[1].items()
    )
    torch.testing.assert_close(*trained)


def test_accuracies_are_not_weighted():
    model = stock_wrapper('mask_rcnn').eval()
    draw_alike(model.student)
    once = model.loss(*two_sources())
    model.semi_weight = 3.0
    thrice = model.loss(*two_sources())
    for name, value in once.items():
        weighs = name.startswith('unsup_') and 'loss' in name
        torch.testing.assert_close(thrice[name], (3 if weighs else 1) * value)
    assert 'unsup_acc' in once


def test_a_plain_batch_is_labelled():
    """As of a data set without unlabelled images, with a teacher that adapts."""
    model = stock_wrapper('mask_rcnn').eval()
    draw_alike(model.student)
    inputs, samples = two_sources()
    images = list(inputs['sup'].byte())
    data = dict(inputs=images, data_samples=samples['sup'])
    prepared = model.data_preprocessor(copy.deepcopy(data), training=True)
    losses = model(**prepared, mode='loss')
    plain = model.data_preprocessor.data_preprocessor(data, training=True)
    expected = model.student(**plain, mode='loss')
    assert losses.keys() == {f'sup_{name}' for name in expected}
    torch.testing.assert_close(losses['sup_loss_mask'], expected['loss_mask'])


def test_a_teacher_sees_its_own_colours(monkeypatch):
    """RTMDet-Ins takes BGR and Mask R-CNN RGB; the teacher labels, and is tested."""
    student, teacher = stock_detector('rtmdet_ins'), stock_detector('mask_rcnn')
    model = stock_wrapper(student, teacher=teacher).eval()
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    data = dict(
        inputs=[images[0], images[1, :, :, :64]],
        data_samples=[instances(64, 96, 1), instances(64, 64, 1)],
    )
    expected = model.teacher.data_preprocessor(copy.deepcopy(data), False)
    seen = []

    def predict(inputs, samples, rescale):
        seen.append(inputs)
        for sample in samples:
            masks = torch.zeros(0, *sample.img_shape[:2])
            sample.pred_instances = InstanceData(
                masks=masks, scores=masks[:, 0, 0], labels=masks[:, 0, 0]
            )
        return samples

    monkeypatch.setattr(model.teacher, 'predict', predict)
    given = model.data_preprocessor.data_preprocessor(data, False)
    model.pseudo_label(given['inputs'], given['data_samples'])
    model.semi_test_cfg['predict_on'] = 'teacher'
    model.predict(given['inputs'], given['data_samples'])
    for inputs in seen:
        torch.testing.assert_close(inputs, expected['inputs'])
    assert len(seen) == 2
    alike = stock_wrapper(student, teacher=student)
    assert alike._seen_by_teacher(inputs, data['data_samples']) is inputs


# What the constructor refuses


class NoFeatures(nn.Module):
    """What a user may register: no detector."""

    def __init__(self, data_preprocessor=None):
        super().__init__()

    def loss(self, *_):
        return {}


MODELS.register_module(module=NoFeatures, force=True)


def refused(config, message):
    with pytest.raises(ValueError, match=message) as caught:
        MODELS.build(dict(type='SemiSupervisedSegmentor', student=config))
    assert '\n' not in str(caught.value)


def test_a_student_that_cannot_work_is_refused():
    colours = dict(type='DetDataPreprocessor')
    refused(dict(type='NoFeatures', data_preprocessor=colours), 'no extract_feat')
    refused(dict(type='NoFeatures'), 'has no data_preprocessor')
    boxes = stock_detector('mask_rcnn')
    boxes.roi_head.mask_head = boxes.roi_head.mask_roi_extractor = None
    boxes.type = 'FasterRCNN'
    refused(boxes, 'a FasterRCNN without a mask head')
    given = stock_detector('mask_rcnn')
    given.rpn_head = None
    refused(given, 'give no proposals: add rpn_head')
    stuff = stock_detector('maskformer')
    for part in (stuff.panoptic_head, stuff.panoptic_fusion_head):
        part.num_stuff_classes = 53
    stuff.panoptic_head.loss_cls.class_weight = [1.0] * 61 + [0.1]
    refused(stuff, 'with 53 stuff classes')


def test_a_teacher_of_another_number_of_classes_is_refused():
    student, teacher = stock_detector('mask_rcnn'), stock_detector('rtmdet_ins', 20)
    with pytest.raises(ValueError, match='knows 20 classes and the student 8'):
        stock_wrapper(student, teacher=teacher)


def test_a_data_preprocessor_beside_the_model():
    """mmdet's Mask2Former has it at the top level, too, and a runner passes it on."""
    student = stock_detector('mask2former')
    colours = student.pop('data_preprocessor')
    model = stock_wrapper(student, data_preprocessor=colours)
    inside = model.data_preprocessor.data_preprocessor
    assert inside.mean.flatten().tolist() == pytest.approx(colours.mean)


def test_a_contrast_in_the_wrong_place_is_refused():
    contrast = dict(type='PixelContrastHead', in_channels=64, loss={})
    with pytest.raises(ValueError, match=r'give it to SemiSupervisedSegmentor'):
        with_classes('MaskRCNN', num_classes=2, pixel_contrast=contrast)
    with pytest.raises(ValueError, match=r"contrast_on='fpn' must be 'backbone' or"):
        stock_wrapper('mask_rcnn', pixel_contrast=contrast, contrast_on='fpn')


@pytest.mark.parametrize('family', FAMILIES)
def test_number_of_classes(family):
    """All heads have it, and it can be read from the stock detector."""
    config = stock_detector(family, num_classes=3)
    model = MODELS.build(
        {**config, 'type': 'WithClasses', 'detector_type': config.type}
        | {'classes': ('a', 'b', 'c', 'd', 'e'), 'pixel_contrast': None}
    )
    assert class_count(model) == 5
    assert type(model).__module__.startswith('mmdet.')


def test_classes_have_to_be_given():
    with pytest.raises(ValueError, match='MaskRCNN: give classes or num_classes'):
        MODELS.build({'type': 'WithClasses', 'detector_type': 'MaskRCNN'})


# Labels of an online teacher


@pytest.mark.parametrize('family', FAMILIES)
def test_an_online_teacher_labels_the_view(family):
    """As in testing, the view being the image; also if it is a crop of a larger one."""
    model = stock_wrapper(
        'mask_rcnn', teacher=stock_detector(family), score_thr=0.0, min_area=4
    ).train()
    for part in model.teacher.modules():  # an untrained SOLO is unsure
        test_cfg = getattr(part, 'test_cfg', None) or {}
        test_cfg.update({k: 0.0 for k in ('score_thr', 'filter_thr') if k in test_cfg})
    inputs, samples = two_sources()
    padded = pad_and_join([inputs['unsup'], inputs['sup']], [])[:1]
    (given,) = samples['unsup']
    given.set_metainfo(dict(batch_input_shape=(64, 96)))
    seen = instances(48, 80, 0, padded=(64, 96))
    own = model._seen_by_teacher(padded, [seen])  # PointRend's colours are others
    (expected,) = model.teacher.predict(own, [seen], rescale=True)
    # Its resized image was larger than the crop.
    given.set_metainfo(dict(ori_shape=(200, 300), scale_factor=(0.5, 0.5)))
    given.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    (labelled,) = model.pseudo_label(padded, [given])
    truth = expected.pred_instances
    truth = truth[(truth.masks.flatten(1).sum(1) >= 4) & (truth.scores > 0)]
    found = labelled.gt_instances
    assert isinstance(found.masks, BitmapMasks)
    assert found.masks.masks.shape == (len(truth), 64, 96)
    assert len(truth) > 0
    assert torch.equal(found.labels, truth.labels)
    pixels = found.masks.to_tensor(torch.bool, 'cpu')
    assert torch.equal(pixels[:, :48, :80], truth.masks.bool())
    assert not pixels[:, 48:].any()
    assert not pixels[:, :, 80:].any()
    assert torch.equal(found.bboxes, mask_boxes(pixels))


@pytest.mark.parametrize('family', KINDS)
def test_labels_of_another_family_are_learnt(family):
    """Masks come in the form that the student's head reads."""
    model = stock_wrapper(
        family, teacher=stock_detector('mask2former'), query_rule=dict(score_thr=0.0)
    ).train()
    losses = model.loss(*two_sources(labeled=(3, 1)))
    assert losses['teacher_labels_per_image'] > 0
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()


def test_the_rule_for_queries_gives_a_stock_student_whole_masks():
    """A mask of the logits' size is enlarged to the image's; its box with it."""
    model = stock_wrapper(
        'mask_rcnn', teacher=stock_detector('mask2former'), query_rule={}
    )
    classes = torch.full((1, 2, 9), -20.0)
    classes[0, :, 3] = 20
    masks = torch.full((1, 2, 16, 24), -20.0)
    masks[0, :, 2:8, 4:10] = 20
    model.teacher._forward = lambda *_: ([classes], [masks])
    inputs = torch.zeros(1, 3, 64, 96)
    (labelled,) = model.pseudo_label(inputs, [instances(64, 96, 0)])
    assert labelled.gt_instances.bboxes.tolist() == [[16, 8, 40, 32]] * 2
    pixels = labelled.gt_instances.masks.masks
    expected = torch.zeros(2, 64, 96)
    expected[:, 8:32, 16:40] = 1
    # Bilinear enlarging cuts the corners.
    assert (torch.from_numpy(pixels) != expected).sum() <= 2 * 4 * 3
    model.nms_thr = 0.9
    (labelled,) = model.pseudo_label(inputs, [instances(64, 96, 0)])
    assert len(labelled.gt_instances) == 1


def test_a_query_without_a_sure_pixel_is_no_label_of_a_stock_student():
    """Its probabilities suffice for the rule, but a box needs a pixel."""
    model = stock_wrapper(
        'mask_rcnn', teacher=stock_detector('mask2former'), query_rule={}
    )
    classes = torch.full((1, 2, 9), -20.0)
    classes[0, :, 3] = 20
    masks = torch.full((1, 2, 16, 24), -0.1)  # a sum of 182
    masks[0, 1, 2:8, 4:10] = 20
    model.teacher._forward = lambda *_: ([classes], [masks])
    inputs, samples = two_sources()
    (labelled,) = model.pseudo_label(inputs['sup'][:1], [instances(64, 96, 0)])
    assert labelled.gt_instances.bboxes.tolist() == [[16, 8, 40, 32]]
    losses = model.loss(inputs, samples)
    assert losses['teacher_labels_per_image'] == 1
    assert losses['unsup_loss_bbox'].isfinite()
