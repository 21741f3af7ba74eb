"""Test SwinMTL: sizes, padding, and prediction, also mirrored and in windows."""

import itertools

import pytest
import torch
from depth_scenes import WIDE, batch, inputs, samples, tiny_model
from mmdet.registry import MODELS
from torch.nn import functional as F

from mmcast.models.dense_prediction import (
    predict_flipped,
    predict_windows,
    window_starts,
)
from mmcast.testing.reduced_configs import load_config


def lively_model(**changes):
    """Build a tiny model for tests whose untrained prediction varies over the image."""
    return tiny_model(**{**WIDE, **changes}).eval()


def assert_same_maps(found, wanted, **tolerances):
    assert list(found) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], **tolerances)
        assert wanted[name].std() > 1e-3 * wanted[name].abs().mean()


def test_published_number_of_weights():
    config = load_config('swinmtl/cityscapes', PRESET='research_code')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    count = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in model.named_children()
    }
    assert (count['decoder'], count['depth_head'], count['seg_head']) == (
        176_704,
        148_737,
        170_644,
    )
    assert sum(count.values()) - count['critic'] == 87_389_901
    assert count['critic'] == 2_773_698


class TestForward:
    @pytest.mark.parametrize('size', [(64, 64), (70, 90), (33, 127)])
    @pytest.mark.parametrize('head_stride', [1, 2, 4])
    def test_every_pixel_has_outputs(self, head_stride, size):
        model = tiny_model(head_stride=head_stride).eval()
        with torch.no_grad():
            found = model(inputs(2, size), mode='tensor')
        assert {name: maps.shape for name, maps in found.items()} == {
            'depth': (2, 1, *size),
            'seg': (2, 5, *size),
        }
        assert all(maps.dtype == torch.float32 for maps in found.values())

    @pytest.mark.parametrize(('head_stride', 'side'), [(1, 64), (2, 32), (4, 16)])
    def test_heads_run_at_their_stride(self, head_stride, side):
        model = tiny_model(head_stride=head_stride)
        assert model.extract_feat(inputs(1)).shape == (1, 16, side, side)

    def test_quarter_resolution_is_upsampled(self):
        model = lively_model(head_stride=4)
        images = inputs(1, (70, 90))
        with torch.no_grad():
            found = model(images, mode='tensor')
            coarse = model.seg_head.layers(model.decoder(model.backbone(images)))
        assert coarse.shape[-2:] == (24, 24)  # of 3x3 patches of 32 pixels
        whole = F.interpolate(coarse, (96, 96), mode='bilinear', align_corners=False)
        assert_same_maps(dict(seg=found['seg']), dict(seg=whole[..., :70, :90]))

    def test_decoder_map_is_doubled_twice_and_not_enlarged_at_once(self):
        model = lively_model(head_stride=1)
        with torch.no_grad():
            decoded = model.decoder(model.backbone(inputs()))
            twice = F.interpolate(decoded, scale_factor=2, mode='bilinear')
            twice = F.interpolate(twice, scale_factor=2, mode='bilinear')
            found = model.extract_feat(inputs())
        torch.testing.assert_close(found, twice)

    def test_first_depth_is_near_28_centimetres(self):
        with torch.no_grad():
            found = tiny_model().eval().predict_maps(inputs())['depth']
        torch.testing.assert_close(
            found, torch.full_like(found, 0.2828), rtol=1e-3, atol=0
        )

    @pytest.mark.parametrize('stride', [8, 3, 0])
    def test_bad_stride(self, stride):
        with pytest.raises(ValueError, match='give 1, 2 or 4'):
            tiny_model(head_stride=stride)

    def test_bad_configs(self):
        with pytest.raises(ValueError, match='no head: give depth_head, seg_head or'):
            tiny_model(depth_head=None, seg_head=None)
        with pytest.raises(ValueError, match="preset is 'author': choose one of"):
            tiny_model(preset='author')

    def test_preset_sets_what_the_config_does_not(self):
        model = tiny_model(
            preset='research_code',
            critic=dict(type='WassersteinCritic', channels=4, penalty_weight=1.0),
        )
        assert (model.depth_head.eps, model.depth_head.cap_targets) == (0, False)
        assert (model.critic.penalty_weight, model.soft) == (1, False)
        assert model.critic.layers[0].in_channels == 2
        assert model.critic.layers[-1].out_channels == 2
        assert tiny_model().critic.layers[0].in_channels == 1 + 5


class TestPredict:
    def test_padding_is_cut_and_the_image_gets_its_size_back(self, monkeypatch):
        """Predict ramps that are not a number in the padding."""
        model = tiny_model()
        shapes = [(64, 64), (48, 56), (40, 64)]
        originals = [(64, 64), (96, 112), (20, 32)]
        ramp = torch.arange(64.0).expand(3, 1, 64, 64).clone()
        for index, (height, width) in enumerate(shapes):
            ramp[index, :, height:] = torch.nan
            ramp[index, ..., width:] = torch.nan
        logits = torch.cat([ramp, 2 * ramp - 40.0], 1)  # the second wins beyond 40
        monkeypatch.setattr(
            model, 'predict_maps', lambda _: dict(depth=ramp, seg=logits)
        )
        for rescale in (False, True):
            given = samples(3)
            for sample, shape, original in zip(given, shapes, originals, strict=True):
                sample.set_metainfo(dict(img_shape=shape, ori_shape=original))
            found = model.predict(torch.zeros(3, 3, 64, 64), given, rescale=rescale)
            for sample, shape, original in zip(found, shapes, originals, strict=True):
                size = original if rescale else shape
                depth, labels = sample.pred_depth.depth, sample.pred_sem_seg.sem_seg
                assert depth.shape == labels.shape == (1, *size)
                assert (depth.dtype, labels.dtype) == (torch.float32, torch.int64)
                place = (torch.arange(size[1]) + 0.5) * shape[1] / size[1] - 0.5
                place = place.clamp(0, shape[1] - 1).expand(1, *size)
                torch.testing.assert_close(depth, place)
                assert torch.equal(labels, (place > 40).long())

    def test_batch_from_the_loader(self):
        """Pad images of two sizes, and predict each as if it were alone."""
        model = lively_model()
        data = batch(2)
        for index, size in enumerate([(64, 64), (64, 48)]):
            data['inputs'][index] = data['inputs'][index][:, : size[0], : size[1]]
            data['data_samples'][index].set_metainfo(
                dict(img_shape=size, ori_shape=size)
            )
        with torch.no_grad():
            found = model.val_step(data)
            assert found[1].pred_depth.depth.shape == (1, 64, 48)
            first = model.predict_maps(data['inputs'][0][None] / 255)
        torch.testing.assert_close(
            found[0].pred_depth.depth, first['depth'][0], rtol=1e-3, atol=0
        )
        labels = found[0].pred_sem_seg.sem_seg[0]
        assert (labels == first['seg'][0].argmax(0)).float().mean() > 0.99
        assert len(labels.unique()) > 2

    def test_depth_is_decoded_from_the_outputs(self):
        model = lively_model()
        with torch.no_grad():
            outputs = model(inputs(), mode='tensor')
            found = model.predict_maps(inputs())
        code = outputs['depth'].sigmoid()
        wanted = dict(depth=1e-3 * (80 / 1e-3) ** code, seg=outputs['seg'])
        assert_same_maps(found, wanted, rtol=1e-4, atol=1e-6)

    def test_only_the_first_classes(self):
        images, given = inputs(), samples()
        model = lively_model(test_cfg=dict(classes=3))
        whole = model(images, mode='tensor')['seg']
        assert (whole.argmax(1) >= 3).any()
        found = model.predict(images, given)
        labels = torch.stack([sample.pred_sem_seg.sem_seg for sample in found])
        assert torch.equal(labels[:, 0], whole[:, :3].argmax(1))

    @pytest.mark.parametrize('task', ['depth', 'seg'])
    def test_single_task(self, task):
        other = dict(depth='seg_head', seg='depth_head')[task]
        model = lively_model(**{other: None})
        found = model.predict(inputs(), samples())[0]
        assert ('pred_depth' in found) == (task == 'depth')
        assert ('pred_sem_seg' in found) == (task == 'seg')


class TestFlip:
    def test_is_the_average_by_hand(self):
        images, model = inputs(), lively_model()
        with torch.no_grad():
            plain, mirrored = (model.predict_maps(x) for x in (images, images.flip(-1)))
            model.test_cfg['flip'] = True
            found = model.predict_maps(images)
        wanted = {name: (plain[name] + mirrored[name].flip(-1)) / 2 for name in plain}
        assert_same_maps(found, wanted)
        assert not torch.allclose(found['depth'], plain['depth'], rtol=1e-3)

    def test_mirrored_image_gives_the_mirrored_prediction(self):
        model = lively_model(test_cfg=dict(flip=True))
        images = inputs(2, (64, 70))
        with torch.no_grad():
            found = model.predict_maps(images.flip(-1))
            wanted = model.predict_maps(images)
        assert_same_maps(found, {name: x.flip(-1) for name, x in wanted.items()})


def means(images):
    """Predict each window's mean, so that windows differ."""
    return dict(mean=images.mean((1, 2, 3), keepdim=True).expand_as(images[:, :1]))


def identity(images):
    return dict(same=images)


LENGTHS = itertools.product([1, 5, 16, 17, 31], [1, 4, 7, 16, 40], [1, 3, 4, 7, 40])


class TestWindows:
    @pytest.mark.parametrize(
        ('length', 'window', 'stride'),
        [sizes for sizes in LENGTHS if sizes[2] <= sizes[1]],
    )
    def test_every_pixel_is_covered_from_the_inside(self, length, window, stride):
        starts = window_starts(length, window, stride)
        covered = {x for at in starts for x in range(at, at + window)}
        assert covered >= set(range(length))
        assert starts == sorted(set(starts))
        assert all(0 <= at <= max(length - window, 0) for at in starts)
        assert all(b - a <= stride for a, b in itertools.pairwise(starts))

    def test_published_halves(self):
        assert window_starts(2048, 1024, 1024) == [0, 1024]
        assert window_starts(2048, 1024, 1024 // 15)[-1] == 1024  # no columns left over

    @pytest.mark.parametrize('stride', [0, -1, 5])
    def test_stride_that_leaves_gaps(self, stride):
        with pytest.raises(ValueError, match=f'stride .*{stride}.* window'):
            window_starts(16, 4, stride)

    @pytest.mark.parametrize('stride', [(5, 7), (3, 7), (2, 1)])
    def test_function_of_the_pixel_is_unchanged(self, stride):
        images = inputs(2, (13, 18))
        found = predict_windows(identity, images, (5, 7), stride)
        torch.testing.assert_close(found['same'], images)
        ones = torch.ones(1, 3, 13, 18)
        assert torch.equal(
            predict_windows(identity, ones, (5, 7), stride)['same'], ones
        )

    def test_average_over_the_windows_of_a_pixel(self):
        images = torch.arange(6.0).expand(1, 3, 1, 6)
        found = predict_windows(means, images, (1, 4), (1, 1))['mean']
        # The windows' means are 1.5, 2.5 and 3.5.
        wanted = torch.tensor([1.5, 2, 2.5, 2.5, 3, 3.5])
        torch.testing.assert_close(found, wanted.view(1, 1, 1, 6))

    @pytest.mark.parametrize('window', [(64, 70), (128, 128), (64, 1000)])
    def test_window_of_the_whole_image_changes_nothing(self, window):
        images = inputs(2, (64, 70))
        model = lively_model()
        with torch.no_grad():
            wanted = model.predict_maps(images)
            model.test_cfg.update(window=window)
            found = model.predict_maps(images)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    def test_halves_are_predicted_apart_and_mirrored(self):
        images = inputs(1, (64, 128))
        model = lively_model()
        with torch.no_grad():
            parts = [
                predict_flipped(model.predict_maps, half)
                for half in images.split(64, 3)
            ]
            model.test_cfg.update(window=(64, 64), flip=True)
            found = model.predict_maps(images)
        wanted = {name: torch.cat([part[name] for part in parts], -1) for name in found}
        assert_same_maps(found, wanted)


class TestPreprocessor:
    def test_pads_labels_with_255_and_depth_with_0(self):
        sizes = [(64, 48), (40, 64)]
        data = dict(
            inputs=[torch.full((3, *size), 255, dtype=torch.uint8) for size in sizes],
            data_samples=[samples(1, size)[0] for size in sizes],
        )
        given = [(x.gt_depth.depth, x.gt_sem_seg.sem_seg) for x in data['data_samples']]
        found = tiny_model().data_preprocessor(data, training=True)
        assert found['inputs'].shape == (2, 3, 64, 64)
        for index, (height, width) in enumerate(sizes):
            sample, image = found['data_samples'][index], found['inputs'][index]
            assert (image[:, :height, :width] == 1).all()
            assert image.sum() == 3 * height * width
            for maps, before, padding in (
                (sample.gt_depth.depth, given[index][0], 0),
                (sample.gt_sem_seg.sem_seg, given[index][1], 255),
            ):
                assert maps.shape == (1, 64, 64)
                assert maps.dtype == before.dtype
                assert torch.equal(maps[:, :height, :width], before)
                outside = torch.ones(64, 64, dtype=torch.bool)
                outside[:height, :width] = False
                assert (maps[0, outside] == padding).all()

    def test_pads_to_a_multiple(self):
        preprocessor = MODELS.build(
            dict(type='DepthSegDataPreprocessor', pad_size_divisor=32)
        )
        data = dict(inputs=[torch.zeros(3, 33, 40)], data_samples=samples(1, (33, 40)))
        (sample,) = preprocessor(data, training=True)['data_samples']
        assert sample.gt_depth.depth.shape == sample.gt_sem_seg.sem_seg.shape
        assert sample.gt_depth.depth.shape == (1, 64, 64)

    @pytest.mark.parametrize('field', ['gt_depth', 'gt_sem_seg'])
    def test_pads_what_there_is(self, field):
        data = batch()
        for sample in data['data_samples']:
            delattr(sample, field)
        data['inputs'][0] = torch.zeros(3, 64, 80, dtype=torch.uint8)
        found = tiny_model().data_preprocessor(data, training=True)['data_samples'][1]
        assert field not in found
        kept = {'gt_depth': 'gt_sem_seg', 'gt_sem_seg': 'gt_depth'}[field]
        assert found.get(kept).shape == (64, 80)

    def test_truth_is_not_padded_for_evaluation(self):
        data = batch(1, (33, 40))
        (sample,) = tiny_model().data_preprocessor(data)['data_samples']
        assert sample.gt_depth.depth.shape == (1, 33, 40)
