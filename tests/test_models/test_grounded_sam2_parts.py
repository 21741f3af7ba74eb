"""Test the composite teacher's parts alone: SAM 2 on given boxes, and the prompts."""

import sys

import numpy as np
import pytest
import torch
from composite_teacher import enlarge_weights, item, picture, predict
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn

from mmcast.models.prompts import Prompts
from mmcast.models.segmenters import Sam2Segmenter
from mmcast.models.segmenters.masks import remove_overlap
from mmcast.models.segmenters.sam2 import sam2_config
from mmcast.testing import SAM2

PREPROCESSOR = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
)


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


def test_unknown_size_raises():
    with pytest.raises(ValueError, match=r"arch='huge'.*'large'"):
        sam2_config('huge')


def test_missing_transformers_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ImportError, match=r"pip install 'transformers>=4\.56\.1,<5'"):
        Sam2Segmenter('tiny')


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
