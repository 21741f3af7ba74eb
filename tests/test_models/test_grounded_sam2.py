"""Test the composite teacher (Grounding-DINO and SAM 2) on tiny real models."""

import copy
import sys

import numpy as np
import pytest
import torch
from gloo_ranks import two_ranks
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import InstanceData
from torch import nn

from mmcast.models.prompts import Prompts
from mmcast.models.segmenters import Sam2Segmenter
from mmcast.models.segmenters.masks import predict_masks, remove_overlap
from mmcast.models.segmenters.sam2 import sam2_config
from mmcast.testing import SAM2, WORDS, save_bert, teacher_config

PREPROCESSOR = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp('bert'))


def enlarge_weights(module):
    """Set weights so large that masks and scores differ between boxes."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            scale = parameter[0].numel() ** -0.5
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.fixture(scope='module')
def segmenter():
    return enlarge_weights(MODELS.build(dict(type='Sam2Segmenter', arch=SAM2))).eval()


@MODELS.register_module(force=True)
class GivenBoxes(nn.Module):
    """A detector without text that returns fixed boxes."""

    def __init__(self, found, init_cfg=None):
        super().__init__()
        self.found = found
        self.backbone = nn.Identity()
        self.init_cfg = init_cfg

    def extract_feat(self, inputs):
        return (inputs,)

    def predict(self, inputs, samples, rescale):
        assert rescale
        for sample in samples:
            boxes, scores, labels = self.found
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor(boxes).reshape(-1, 4).float(),
                scores=torch.tensor(scores).float(),
                labels=torch.tensor(labels).long(),
            )
        return samples


def teacher_with_boxes(boxes, scores=None, labels=None, **changes):
    """Build a composite teacher from fixed boxes and the tiny SAM 2."""
    scores = scores or [0.9 - 0.001 * i for i in range(len(boxes))]
    found = (boxes, scores, labels or [i % 2 for i in range(len(boxes))])
    model = MODELS.build(
        dict(
            type='GroundedSam2',
            classes=('person', 'car'),
            detector=dict(type='GivenBoxes', found=found),
            segmenter=dict(type='Sam2Segmenter', arch=SAM2),
            data_preprocessor=PREPROCESSOR,
            **changes,
        )
    )
    enlarge_weights(model.segmenter)
    return model.eval()


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def item(image, scale=1.0):
    """Pack an image as the test pipeline does."""
    import mmcv

    height, width = image.shape[:2]
    size = (round(width * scale), round(height * scale))
    small = mmcv.imresize(image, size)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=small.shape[:2],
            ori_shape=(height, width),
            scale_factor=(size[0] / width, size[1] / height),
            image=image,
        )
    )
    return torch.from_numpy(small).permute(2, 0, 1), sample


def predict(model, *images, scale=1.0):
    inputs, samples = zip(*[item(image, scale) for image in images], strict=True)
    with torch.no_grad():
        return model.test_step(dict(inputs=list(inputs), data_samples=list(samples)))


def run_transformers(sam2, image, boxes):
    """Run transformers' own processor and model, as its documentation shows."""
    from transformers import Sam2ImageProcessorFast, Sam2Processor

    processor = Sam2Processor(
        Sam2ImageProcessorFast(size=dict(height=128, width=128)), target_size=128
    )
    inputs = processor(
        images=np.ascontiguousarray(image[..., ::-1]),
        input_boxes=[boxes],
        return_tensors='pt',
    )
    sizes = inputs.pop('original_sizes')
    with torch.no_grad():
        outputs = sam2(**inputs, multimask_output=False)
    masks = processor.post_process_masks(outputs.pred_masks, sizes, binarize=False)[0]
    return masks, outputs.iou_scores[0, :, 0]


BOXES = [
    [10.0, 5.0, 60.0, 80.0],
    [30.5, 20.25, 90.75, 70.0],
    [0.0, 0.0, 150.0, 90.0],
    [100.0, 50.0, 103.0, 52.0],
    [70.0, 3.0, 149.0, 30.0],
]


@pytest.mark.parametrize('chunk', [1, 2, 32])
def test_masks_equal_those_of_transformers(chunk):
    image = picture(90, 150)
    model = teacher_with_boxes(BOXES, box_chunk=chunk)
    (sample,) = predict(model, image, scale=0.5)
    expected, qualities = run_transformers(model.segmenter.sam2, image, BOXES)
    expected = expected[:, 0]
    sure = expected.abs() > 1e-3
    assert sure.float().mean() > 0.99
    kept = (expected > 0).flatten(1).any(1)
    assert kept.sum() >= 3
    assert len({mask.numpy().tobytes() for mask in expected[kept] > 0}) == kept.sum()
    found = sample.pred_instances
    assert found.masks.dtype == torch.bool
    assert found.masks.shape == (int(kept.sum()), 90, 150)
    assert torch.equal(found.masks[sure[kept]], (expected > 0)[kept][sure[kept]])
    torch.testing.assert_close(found.bboxes, torch.tensor(BOXES)[kept])
    torch.testing.assert_close(found.mask_qualities, qualities[kept])
    assert len(set(qualities.tolist())) == len(BOXES)


def test_logits_equal_transformers_and_boxes_do_not_change(segmenter):
    image = picture(90, 150)
    rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)
    boxes = torch.tensor(BOXES)
    with torch.no_grad():
        logits, _ = segmenter.segment(segmenter.encode(rgb), boxes, (90, 150))
    logits = nn.functional.interpolate(logits[:, None], (90, 150), mode='bilinear')
    expected, _ = run_transformers(segmenter.sam2, image, BOXES)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(boxes, torch.tensor(BOXES))


def test_boxes_run_in_chunks_and_image_is_encoded_once(monkeypatch):
    corners = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 100
    boxes = torch.cat([corners, corners + 20], 1).tolist()
    model = teacher_with_boxes(boxes, box_chunk=32, max_per_img=300, score_thr=0.0)
    calls, encoded = [], []
    segment, encode = model.segmenter.segment, model.segmenter.encode
    monkeypatch.setattr(
        model.segmenter,
        'segment',
        lambda e, b, s: calls.append(len(b)) or segment(e, b, s),
    )
    monkeypatch.setattr(
        model.segmenter, 'encode', lambda i: encoded.append(i.shape) or encode(i)
    )
    predict(model, picture(128, 128))
    assert calls == [32] * 9 + [12]
    assert encoded == [(3, 128, 128)]


def test_no_boxes_and_empty_boxes_give_no_masks():
    model = teacher_with_boxes([])
    found = predict(model, picture(64, 64))[0].pred_instances
    assert found.masks.shape == (0, 64, 64)
    assert found.bboxes.shape == (0, 4)
    # A line, a point, a box outside the image, and a valid box.
    boxes = [[5, 5, 5, 40], [7, 7, 7, 7], [70, 70, 90, 90], [8, 8, 50, 40]]
    found = predict(teacher_with_boxes(boxes), picture(64, 64))[0].pred_instances
    assert found.bboxes.tolist() == [[8, 8, 50, 40]]
    assert found.labels.tolist() == [1]


@pytest.mark.parametrize('size', [(64, 64), (1024, 2048)])
def test_masks_have_the_images_own_size(size):
    image = picture(*size)
    (sample,) = predict(teacher_with_boxes(BOXES), image, scale=0.25)
    assert sample.pred_instances.masks.shape[1:] == size
    assert len(sample.pred_instances) > 0
    assert 'image' not in sample


def test_score_threshold_max_per_img_and_order():
    boxes = [[2 + i, 2, 40 + i, 40] for i in range(5)]
    scores = [0.3, 0.9, 0.05, 0.5, 0.7]
    model = teacher_with_boxes(
        boxes, scores, [0, 1, 0, 1, 0], score_thr=0.3, max_per_img=2
    )
    found = predict(model, picture(64, 64))[0].pred_instances
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7]))
    assert found.labels.tolist() == [1, 0]
    model.max_per_img = 100
    found = predict(model, picture(64, 64))[0].pred_instances
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7, 0.5]))


def test_overlap_is_removed_in_score_order():
    masks = torch.rand(6, 20, 30, generator=torch.Generator().manual_seed(0)) > 0.6
    kept = remove_overlap(masks)
    for y in range(20):
        for x in range(30):
            owners = masks[:, y, x].nonzero().flatten().tolist()
            found = kept[:, y, x].nonzero().flatten().tolist()
            assert found == owners[:1]
    image = picture(90, 150)
    model = teacher_with_boxes(BOXES)
    plain = predict(model, image)[0].pred_instances
    model.remove_overlap = True
    apart = predict(model, image)[0].pred_instances
    assert (plain.masks.sum(0) > 1).any()
    assert (apart.masks.sum(0) <= 1).all()
    assert torch.equal(apart.masks.any(0), plain.masks.any(0))
    assert apart.masks.flatten(1).any(1).all()


def test_batch_of_mixed_sizes_equals_single_images():
    model = teacher_with_boxes(BOXES)
    images = [picture(90, 150, 1), picture(64, 64, 2), picture(130, 200, 3)]
    for image, sample in zip(images, predict(model, *images), strict=True):
        alone = predict(model, image)[0].pred_instances
        assert torch.equal(sample.pred_instances.masks, alone.masks)
        assert alone.masks.shape[1:] == image.shape[:2]


def test_unsuitable_mask_prompts_raise():
    with pytest.raises(ValueError, match='Sam2Segmenter takes no masks as prompts'):
        teacher_with_boxes(BOXES, mask_prompts=True)
    model = teacher_with_boxes(BOXES)
    model.mask_prompts = True
    with pytest.raises(ValueError, match='GivenBoxes predicts no masks'):
        predict(model, picture(90, 150))


def test_sample_without_image_raises():
    model = teacher_with_boxes(BOXES)
    inputs, sample = item(picture(64, 64))
    del sample.image
    with pytest.raises(ValueError, match=r'KeepImage.*meta_keys'):
        model.test_step(dict(inputs=[inputs], data_samples=[sample]))


# Prompts


class Reader:
    """A text encoder whose tokenizer makes one token per word."""

    def __init__(self, max_tokens):
        self.max_tokens = max_tokens

    def tokenizer(self, text, add_special_tokens):
        assert not add_special_tokens
        return type('Tokens', (), dict(input_ids=text.split()))


def test_class_words_come_from_the_table():
    prompts = Prompts(('rider', 'traffic_light'), dict(rider='a thing'), Reader(99))
    assert prompts.words == ('a thing', 'traffic light')
    assert prompts.chunks == [[0, 1]]


def test_chunks_hold_each_class_once_within_the_limit():
    classes = [f'c{i}' + ' x' * (i % 4) for i in range(100)]
    prompts = Prompts(classes, None, Reader(22))
    assert [label for chunk in prompts.chunks for label in chunk] == list(range(100))
    for chunk, after in zip(prompts.chunks, [*prompts.chunks[1:], None], strict=True):
        length = sum(len(classes[label].split()) + 1 for label in chunk)
        assert length <= 20
        if after:  # the next class would exceed the limit
            assert length + len(classes[after[0]].split()) + 1 > 20


def test_training_prompt_includes_the_images_classes():
    prompts = Prompts([f'c{i}' for i in range(50)], None, Reader(22))
    drawn = [prompts.draw([7, 31, 7]) for _ in range(100)]
    for labels in drawn:
        assert {7, 31} <= set(labels)
        assert len(labels) == len(set(labels)) == 10
    assert len({tuple(labels) for labels in drawn}) > 50
    assert {label for labels in drawn for label in labels} == set(range(50))
    with pytest.raises(ValueError, match='11 classes of one image'):
        prompts.draw(range(11))


@pytest.mark.parametrize(
    ('classes', 'words', 'message'),
    [
        (['car'], dict(cat='x'), r"\['cat'\], but the classes are \('car',\)"),
        (['car', 'van'], dict(van='Car'), "'car' and 'van' have the same prompt"),
        (['car'], dict(car='a. b'), 'without "."'),
        (['(x)'], None, "'' cannot be the prompt"),
        (['car'], dict(car=' '.join('abcdefgh')), '8 tokens.*reads 7'),
    ],
)
def test_invalid_prompts_raise(classes, words, message):
    with pytest.raises(ValueError, match=message):
        Prompts(classes, words, Reader(10))


# With Grounding-DINO


@pytest.fixture(scope='module')
def teacher(bert):
    torch.manual_seed(0)
    model = MODELS.build(teacher_config(bert, score_thr=0.0, max_per_img=50))
    enlarge_weights(model)
    return model.eval()


def predict_with_mmdet(teacher, image, words):
    """Run mmdet's Grounding-DINO alone."""
    inputs, sample = item(image)
    sample.set_metainfo(dict(text=words, custom_entities=True))
    batch = dict(inputs=[inputs], data_samples=[sample])
    with torch.no_grad():
        data = teacher.data_preprocessor(batch)
        found = teacher.detector.predict(data['inputs'], data['data_samples'])
        return found[0].pred_instances


def test_boxes_equal_those_of_the_detector(teacher):
    image = picture(64, 96)
    found = predict(teacher, image)[0].pred_instances
    expected = predict_with_mmdet(teacher, image, list(WORDS[:8]))
    order = expected.scores.argsort(descending=True, stable=True)
    area = (expected.bboxes[:, 2:] - expected.bboxes[:, :2]).prod(1)
    expected = expected[order[area[order] > 0][:50]]
    with torch.no_grad():
        rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
        masks, qualities = predict_masks(teacher.segmenter, rgb, expected.bboxes, 32)
    kept = masks.flatten(1).any(1)
    assert kept.sum() > 10
    assert len(set(found.labels.tolist())) > 1
    assert torch.equal(found.labels, expected.labels[kept])
    torch.testing.assert_close(found.scores, expected.scores[kept])
    torch.testing.assert_close(found.bboxes, expected.bboxes[kept])
    assert torch.equal(found.masks, masks[kept])
    assert torch.equal(found.class_scores, found.scores)
    assert torch.equal(found.mask_qualities, qualities[kept])


def test_chunked_prompts_join_the_detectors_results(teacher, bert, monkeypatch):
    """Use class names of several words, some with a shared word, in full chunks."""
    classes = ('traffic light', 'light', 'screen door', 'screen', 'a person', 'bus')
    model = copy.deepcopy(teacher)
    model.classes = classes
    monkeypatch.setattr(model.detector.language_model, 'max_tokens', 9)
    model.prompts = Prompts(classes, None, model.detector.language_model)
    assert model.prompts.chunks == [[0, 1], [2, 3], [4, 5]]
    counts = []
    extract = type(model.detector).extract_feat
    monkeypatch.setattr(
        type(model.detector),
        'extract_feat',
        lambda self, x: counts.append(1) or extract(self, x),
    )
    image = picture(64, 96)
    found = predict(model, image)[0].pred_instances
    assert len(counts) == 1
    expected = []
    for chunk in model.prompts.chunks:
        part = predict_with_mmdet(model, image, [classes[label] for label in chunk])
        expected += zip(
            part.scores.tolist(),
            (torch.tensor(chunk)[part.labels]).tolist(),
            part.bboxes.tolist(),
            strict=True,
        )
    expected = sorted(expected, key=lambda row: -row[0])
    assert len(found) > 10
    assert len(set(found.labels.tolist())) > 2
    torch.testing.assert_close(found.scores[0], torch.tensor(expected[0][0]))
    for score, label, box in zip(
        found.scores.tolist(), found.labels.tolist(), found.bboxes, strict=True
    ):
        # Several boxes may have the same label and score.
        assert any(
            other == label
            and abs(wanted - score) < 1e-5
            and torch.allclose(box, torch.tensor(place), atol=1e-2, rtol=1e-3)
            for wanted, other, place in expected
        )


def annotated(height, width, labels):
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(height, width),
            ori_shape=(height, width),
            batch_input_shape=(64, 96),
            pad_shape=(64, 96),
        )
    )
    boxes = [[4.0 + 3 * i, 5.0, 30.0 + 5 * i, 40.0 + i] for i in range(len(labels))]
    masks = torch.zeros(len(labels), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.tensor(labels).long(),
        masks=masks,
    )
    return sample


def losses(function, *args):
    torch.manual_seed(1)
    return function(*args)


def test_loss_equals_that_of_mmdet(teacher):
    model = copy.deepcopy(teacher).train()
    inputs = torch.randn(3, 3, 64, 96)
    samples = [annotated(64, 96, [0, 5]), annotated(60, 80, [7]), annotated(64, 64, [])]
    found = losses(model.loss, inputs, samples)
    for sample in samples:
        sample.set_metainfo(dict(text=WORDS[:8], custom_entities=True))
    expected = losses(model.detector.loss, inputs, samples)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_chunked_training_maps_labels_to_the_prompt(teacher, monkeypatch):
    model = copy.deepcopy(teacher).train()
    monkeypatch.setattr(model.detector.language_model, 'max_tokens', 8)
    model.prompts = Prompts(WORDS[:8], None, model.detector.language_model)
    assert len(model.prompts.chunks) == 3
    samples = [annotated(64, 96, [0, 5, 5]), annotated(64, 96, [7])]
    for sample in samples:
        asked = model._annotated(sample)
        named = [asked.text[label] for label in asked.gt_instances.labels]
        assert named == [WORDS[label] for label in sample.gt_instances.labels]
    found = model.loss(torch.randn(2, 3, 64, 96), samples)
    assert all(value.isfinite() for value in found.values())


def test_only_the_detector_learns(teacher):
    model = copy.deepcopy(teacher).train()
    assert not model.segmenter.training
    found = model.loss(torch.randn(1, 3, 64, 96), [annotated(64, 96, [0, 5])])
    sum(found.values()).backward()
    assert all(p.grad is None for p in model.segmenter.parameters())
    assert model.detector.backbone.patch_embed.projection.weight.grad.abs().sum() > 0


def test_recomputed_activations_give_the_same_gradients(bert):
    """Check that num_cp works without fairscale."""
    gradients = []
    for count in (0, 1):
        config = teacher_config(bert)
        config.detector.encoder.num_cp = count
        torch.manual_seed(0)
        model = MODELS.build(config)
        model.init_weights()
        model.train()
        inputs = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
        found = losses(model.loss, inputs, [annotated(64, 96, [0, 5])])
        sum(found.values()).backward()
        gradients.append(
            {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        )
        assert any('encoder.layers.0' in name for name in model.state_dict())
    plain, recomputed = gradients
    recomputed = {
        k.replace('_checkpoint_wrapped_module.', ''): v for k, v in recomputed.items()
    }
    assert plain.keys() == recomputed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value)


# Inside the wrapper


def test_the_image_encoder_runs_once_for_both_sources(teacher, bert):
    """Compare also each source's losses with those of a separate pass."""
    model = copy.deepcopy(teacher)
    config = dict(type='SemiSupervisedSegmentor', student=teacher_config(bert))
    wrapper = MODELS.build(config)
    wrapper.student = model
    wrapper.train()
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    inputs = torch.randn(3, 3, 64, 96)
    samples = [annotated(64, 96, [0, 5]), annotated(60, 80, [7]), annotated(64, 64, [])]
    first, second = slice(None, 1), slice(1, None)
    for part, other in ((first, second), (second, first)):
        calls.clear()
        sources = dict(sup=part, unsup=other)
        found = losses(
            wrapper.loss,
            {name: inputs[images] for name, images in sources.items()},
            {name: samples[images] for name, images in sources.items()},
        )
        assert len(calls) == 1
        assert 'loss_pxl' not in found
        expected = losses(model.loss, inputs[part], samples[part])
        assert len(found) == 2 * len(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[f'sup_{name}'], value)


def learn_on_two_ranks(bert, rank):
    """Self-train the composite for two steps under DistributedDataParallel."""
    config = teacher_config(bert)
    # Recompute activations in encoder and backbone, as the published detector does.
    config.detector.backbone.with_cp = True
    config.detector.encoder.num_cp = 1
    torch.manual_seed(0)
    wrapper = MODELS.build(dict(type='SemiSupervisedSegmentor', student=config))
    wrapper.init_weights()
    model = MMDistributedDataParallel(wrapper.train())
    optimiser = torch.optim.AdamW(
        [p for p in wrapper.parameters() if p.requires_grad], 1e-4
    )
    torch.manual_seed(rank)
    for _ in range(2):
        samples = dict(sup=[annotated(64, 96, [0, 5])], unsup=[annotated(64, 96, [1])])
        inputs = {name: torch.randn(1, 3, 64, 96) for name in samples}
        found = model(inputs, samples, mode='loss')
        optimiser.zero_grad()
        sum(found.values()).backward()
        optimiser.step()
    for parameter in wrapper.parameters():
        both = [torch.zeros_like(parameter) for _ in range(2)]
        torch.distributed.all_gather(both, parameter.detach())
        assert torch.equal(*both)


def test_self_training_of_the_composite_runs_on_two_ranks(bert, tmp_path):
    codes = two_ranks(lambda rank: learn_on_two_ranks(bert, rank), tmp_path)
    assert codes == [0, 0]


@pytest.fixture
def contrasted(bert):
    torch.manual_seed(0)
    wrapper = MODELS.build(
        dict(
            type='SemiSupervisedSegmentor',
            student=teacher_config(bert),
            contrast_on='backbone',
            pixel_contrast=dict(
                type='PixelContrastHead',
                in_channels=128,
                embed_channels=16,
                loss=dict(type='PixelContrastLoss', loss_weight=0.1),
            ),
        )
    )
    return enlarge_weights(wrapper).train()


def test_contrast_is_on_both_sources_and_their_labels(contrasted, monkeypatch):
    """Use labelled and unlabelled images of two sizes."""
    seen = []
    monkeypatch.setattr(
        contrasted.pixel_contrast, 'loss', lambda *args: seen.append(args) or {}
    )
    samples = dict(sup=[annotated(64, 96, [0, 5])], unsup=[annotated(32, 64, [1])])
    inputs = dict(sup=torch.randn(1, 3, 64, 96), unsup=torch.randn(1, 3, 32, 64))
    found = contrasted.loss(inputs, samples)
    assert {name.split('_')[0] for name in found} == {'sup', 'unsup'}
    assert all(value.isfinite() for value in found.values())
    ((images, _, encoder, weak, masks, classes),) = seen
    assert encoder is contrasted.student.detector.backbone
    expected = encoder(images)[-1]
    assert expected.shape == (2, 128, 2, 3)
    torch.testing.assert_close(weak[-1], expected)
    # Cells' centres are at 16 and 48 pixels. The first image's boxes are (4, 5, 30, 40)
    # and (7, 5, 35, 41), the second one's is the first of these.
    shares = masks.softmax(1)
    torch.testing.assert_close(shares[0, :, 0, 0], torch.tensor([0.0, 0.5, 0.5]))
    torch.testing.assert_close(shares[1, :, 0, 0], torch.tensor([0.0, 1.0, 0.0]))
    assert (shares[:, 0, 1] > 0.99).all()
    assert classes.argmax(-1).tolist() == [[8, 0, 5], [8, 1, 8]]


def test_contrast_trains_the_detectors_backbone(contrasted):
    samples = [annotated(64, 96, [0, 5]), annotated(64, 96, [7])]
    found = contrasted.loss(dict(sup=torch.randn(2, 3, 64, 96)), dict(sup=samples))
    found['loss_pxl'].backward()
    assert found['loss_pxl'] > 0
    touched = {
        name.partition('student.detector.')[2].partition('.')[0]
        for name, p in contrasted.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert touched == {'backbone', ''}  # and the contrast's own


# Weights


def test_missing_text_encoder_raises_before_building(bert, tmp_path):
    config = teacher_config(tmp_path / 'nowhere')
    with pytest.raises(
        FileNotFoundError, match=r'nowhere/config\.json is missing.*hf download'
    ):
        MODELS.build(config)


def test_detector_and_segmenter_load_their_files(bert, tmp_path):
    from safetensors.torch import save_file

    source = enlarge_weights(MODELS.build(teacher_config(bert)))
    torch.save(dict(state_dict=source.detector.state_dict()), tmp_path / 'detector.pth')
    # As in the published file: one of two tied tensors, and parts of the video model.
    state = {
        name: tensor.clone()
        for name, tensor in source.segmenter.sam2.state_dict().items()
        if name != 'prompt_encoder.shared_embedding.positional_embedding'
    }
    state['memory_encoder.weight'] = torch.zeros(1)
    save_file(state, tmp_path / 'model.safetensors')
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'teacher.pth')
    for detector, segmenter in (
        ('detector.pth', 'model.safetensors'),
        ('teacher.pth', 'teacher.pth'),
    ):
        config = teacher_config(bert)
        for part, file in (('detector', detector), ('segmenter', segmenter)):
            config[part].init_cfg = dict(
                type='Pretrained', checkpoint=str(tmp_path / file)
            )
        model = MODELS.build(config)
        model.init_weights()
        for name, tensor in source.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_missing_or_incomplete_files_raise(bert, tmp_path):
    for part in ('detector', 'segmenter'):
        config = teacher_config(bert)
        file = tmp_path / f'{part}.pth'
        config[part].init_cfg = dict(type='Pretrained', checkpoint=str(file))
        model = MODELS.build(config)
        with pytest.raises(FileNotFoundError, match=rf'{part}\.pth: does not exist'):
            model.init_weights()
        state = getattr(model, part).state_dict()
        state.popitem()
        torch.save(dict(state_dict=state), file)
        with pytest.raises(ValueError, match=rf'{part}\.pth is not.*is missing'):
            model.init_weights()


def test_unknown_size_raises():
    with pytest.raises(ValueError, match=r"arch='huge'.*'large'"):
        sam2_config('huge')


def test_missing_transformers_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ImportError, match=r"pip install 'transformers>=4\.56\.1,<5'"):
        Sam2Segmenter('tiny')
