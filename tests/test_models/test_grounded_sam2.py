"""Test the composite teacher (Grounding-DINO and SAM 2) on tiny real models."""

import copy

import pytest
import torch
from composite_teacher import enlarge_weights, item, picture, predict
from gloo_ranks import two_ranks
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import InstanceData

from mmcast.models.prompts import Prompts
from mmcast.models.segmenters.masks import predict_masks
from mmcast.testing import WORDS, save_bert, teacher_config


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp('bert'))


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
        contrasted.pixel_contrast,
        'loss',
        lambda *args, **options: seen.append(args) or {},
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
