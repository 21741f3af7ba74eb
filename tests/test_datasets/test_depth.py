"""Depth next to labels: files, tables, and stock transforms that move both."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, TRANSFORMS

from mmcast.datasets.depth_files import CameraFile, disparity_to_depth, read_png
from mmcast.datasets.depth_seg_dataset import CityscapesDepthDataset, DepthSegDataset
from mmcast.datasets.synthscapes.files import encode_disparity
from mmcast.datasets.transforms.depth import (
    ExactRandomCrop,
    LoadDepth,
    PackDepthInputs,
    research_code_depth,
    research_code_table,
)

LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadLabelMap'),
    dict(type='LoadDepth', disparity=True, invalid_labels=[1]),
]
PACK = dict(type='PackDepthInputs', label_table='cityscapes')
CAMERA = dict(
    extrinsic=dict(baseline=0.2), intrinsic=dict(fx=100.0, fy=90.0, u0=8.0, v0=4.0)
)


def data_set(root, split='val', **kwargs):
    folders = dict(
        img_path=f'leftImg8bit/{split}',
        seg_map_path=f'gtFine/{split}',
        depth_path=f'disparity/{split}',
        camera_path=f'camera/{split}',
    )
    settings = dict(
        type='CityscapesDepthDataset',
        data_root=str(root),
        data_prefix=folders,
        pipeline=[*LOAD, PACK],
    )
    return DATASETS.build({**settings, **kwargs})


@pytest.fixture
def scene(tmp_path):
    """Write an 8x16 image whose pixels say where they are, in three files."""
    rows, columns = np.mgrid[:8, :16]
    image = np.stack([rows, columns, rows * 16 + columns], -1).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    labels = (rows * 16 + columns).astype(np.uint8) % 34
    cv2.imwrite(str(tmp_path / 'labels.png'), labels)
    half_metres = (2 * (1 + rows * 16 + columns)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'depth.png'), half_metres)
    (tmp_path / 'camera.json').write_text(json.dumps(CAMERA))
    return dict(
        img_path=str(tmp_path / 'image.png'),
        seg_map_path=str(tmp_path / 'labels.png'),
        depth_path=str(tmp_path / 'depth.png'),
        camera_path=str(tmp_path / 'camera.json'),
    )


class TestFiles:
    def test_disparity_inverts_what_synthscapes_writes(self):
        camera = CameraFile(baseline=0.209313, fx=140.8, fy=140.8, u0=64, v0=32)
        depth = np.array([[1.0, 5.0, 20.0, 79.0, np.inf]], np.float32)
        found = disparity_to_depth(encode_disparity(depth, camera.fx), camera)
        # A step of 1 / 256 pixel is a share of d / 256 / disparity.
        np.testing.assert_allclose(found[0, :4], depth[0, :4], rtol=1e-2)
        assert found[0, 4] == 0
        assert found.dtype == np.float32

    def test_disparity_closed_form(self):
        camera = CameraFile(baseline=0.2, fx=100.0, fy=1, u0=1, v0=1)
        coded = np.array([0, 1, 2, 257, 513, 65535], np.uint16)
        metres = [0, 0, 20 * 256, 20, 10, 20 / (65534 / 256)]
        np.testing.assert_allclose(disparity_to_depth(coded, camera), metres, rtol=1e-6)

    def test_camera_is_read(self, scene):
        assert CameraFile.read(scene['camera_path']) == CameraFile(
            0.2, 100.0, 90.0, 8.0, 4.0
        )

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            ('{', 'is no JSON'),
            ('[]', 'no positive number extrinsic.baseline'),
            ('{"extrinsic": {"baseline": 0.2}}', 'no positive number intrinsic.fx'),
            (
                '{"extrinsic": {"baseline": -1}, "intrinsic": {}}',
                'no positive number extrinsic.baseline',
            ),
        ],
    )
    def test_bad_camera_has_one_line(self, tmp_path, content, message):
        path = tmp_path / 'camera.json'
        path.write_text(content)
        with pytest.raises(ValueError, match=message) as caught:
            CameraFile.read(path)
        assert '\n' not in str(caught.value)

    def test_missing_camera_says_where_it_comes_from(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='camera_trainvaltest'):
            CameraFile.read(tmp_path / 'camera.json')

    def test_png_of_three_channels_is_refused(self, scene):
        with pytest.raises(ValueError, match='no PNG of one channel'):
            read_png(scene['img_path'])
        with pytest.raises(FileNotFoundError, match='is missing'):
            read_png('no.png')


def load(scene, *steps, **depth):
    settings = {'scale': 0.5, **depth}
    pipeline = Compose([*LOAD[:2], dict(type='LoadDepth', **settings), *steps])
    return pipeline(dict(scene))


class TestMoving:
    """The image says where each pixel came from, so the maps can be checked."""

    def check(self, packed):
        image, sample = packed['inputs'], packed['data_samples']
        rows, columns = image[0].long(), image[1].long()
        inside = sample.gt_depth.depth[0] > 0
        assert inside.any()
        place = rows * 16 + columns
        torch.testing.assert_close(
            sample.gt_depth.depth[0][inside], (1.0 + place)[inside].float()
        )
        labels = sample.gt_sem_seg.sem_seg[0]
        assert torch.equal(labels[inside], (place % 34)[inside])
        assert (labels[~inside] == 255).all()
        return inside

    @pytest.mark.parametrize(
        'steps',
        [
            [],
            [dict(type='RandomFlip', prob=1.0)],
            [dict(type='ExactRandomCrop', crop_size=(6, 5))],
            [dict(type='RandomCrop', crop_size=(6, 5))],
            [
                dict(type='RandomFlip', prob=1.0),
                dict(type='ExactRandomCrop', crop_size=(6, 5)),
                dict(type='Pad', size=(20, 12), pad_val=dict(img=0, seg=255)),
            ],
        ],
    )
    def test_stock_transforms_move_both(self, scene, steps):
        packed = load(scene, *steps, dict(type='PackDepthInputs'))
        self.check(packed)
        assert packed['inputs'].shape[1:] == packed['data_samples'].gt_depth.shape

    def test_padding_is_255_and_0(self, scene):
        pad = dict(type='Pad', size=(20, 12), pad_val=dict(img=0, seg=255))
        packed = load(scene, pad, dict(type='PackDepthInputs'))
        inside = self.check(packed)
        assert inside.sum() == 8 * 16
        assert inside[:8, :16].all()

    def test_resizing_takes_the_nearest_and_keeps_metres(self, scene):
        resize = dict(type='Resize', scale=(32, 16), keep_ratio=True)
        sample = load(scene, resize, dict(type='PackDepthInputs'))['data_samples']
        place = torch.arange(128).view(8, 16)
        place = place.repeat_interleave(2, 0).repeat_interleave(2, 1)
        assert torch.equal(sample.gt_depth.depth[0], 1.0 + place)
        assert torch.equal(sample.gt_sem_seg.sem_seg[0], place % 34)

    def test_shrinking_makes_no_new_values(self, scene):
        resize = dict(type='Resize', scale=(11, 5), keep_ratio=False)
        sample = load(scene, resize, dict(type='PackDepthInputs'))['data_samples']
        depth = sample.gt_depth.depth
        assert torch.equal(depth, depth.round())
        assert sample.gt_sem_seg.sem_seg.shape == (1, 5, 11)

    def test_crop_is_random_and_the_same_for_all(self, scene):
        crop = dict(type='ExactRandomCrop', crop_size=(3, 3))
        found = {
            float(load(scene, crop, dict(type='PackDepthInputs'))['inputs'][2, 0, 0])
            for _ in range(20)
        }
        assert len(found) > 3


class TestLoadDepth:
    def test_types(self, scene):
        sample = load(scene, dict(type='PackDepthInputs'))['data_samples']
        assert sample.gt_depth.depth.dtype == torch.float32
        assert sample.gt_depth.depth.shape == (1, 8, 16)
        assert sample.gt_sem_seg.sem_seg.dtype == torch.int64
        assert sample.gt_sem_seg.sem_seg.shape == (1, 8, 16)

    def test_disparity_uses_the_camera(self, scene):
        sample = load(scene, dict(type='PackDepthInputs'), disparity=True)[
            'data_samples'
        ]
        coded = read_png(scene['depth_path']).astype(np.float64)
        np.testing.assert_allclose(
            sample.gt_depth.depth[0], 0.2 * 100 * 256 / (coded - 1), rtol=1e-5
        )

    def test_ego_vehicle_is_invalid(self, scene):
        found = load(scene, dict(type='PackDepthInputs'), invalid_labels=[1, 33])
        depth = found['data_samples'].gt_depth.depth[0]
        labels = found['data_samples'].gt_sem_seg.sem_seg[0]
        assert torch.equal(depth == 0, (labels == 1) | (labels == 33))

    def test_image_without_depth_passes(self, scene):
        del scene['depth_path']
        found = load(scene, dict(type='PackDepthInputs'))['data_samples']
        assert 'gt_depth' not in found
        assert found.gt_sem_seg.sem_seg.shape == (1, 8, 16)

    def test_depth_without_labels(self, scene):
        del scene['seg_map_path']
        found = load(scene, dict(type='PackDepthInputs'))['data_samples']
        assert 'gt_sem_seg' not in found
        assert (found.gt_depth.depth > 0).all()

    def test_other_size_is_refused(self, scene):
        cv2.imwrite(scene['depth_path'], np.ones((4, 16), np.uint16))
        with pytest.raises(ValueError, match=r'is 4x16 pixels, its image .* 8x16'):
            load(scene)

    def test_all_zero_is_refused_unless_allowed(self, scene):
        cv2.imwrite(scene['depth_path'], np.zeros((8, 16), np.uint16))
        with pytest.raises(ValueError, match='no measurement at all'):
            load(scene)
        assert not load(scene, allow_empty=True)['gt_seg_map'][..., 1].any()

    def test_labels_of_another_size_are_refused(self, scene):
        cv2.imwrite(scene['seg_map_path'], np.zeros((4, 16), np.uint8))
        with pytest.raises(ValueError, match=r'labels.png has the shape \(4, 16\)'):
            load(scene)

    def test_disparity_without_a_camera_folder(self, scene):
        del scene['camera_path']
        with pytest.raises(ValueError, match='set data_prefix'):
            load(scene, disparity=True)

    @pytest.mark.parametrize(
        ('settings', 'message'),
        [(dict(scale=0.0), 'scale is 0.0'), (dict(preset='author'), "preset is 'aut")],
    )
    def test_bad_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            LoadDepth(**settings)


class TestResearchCode:
    def test_depth_is_the_measured_warp(self):
        metres = np.array([1, 4, 10, 20, 40, 80, 500], np.float32)
        warped = [2.10, 6.64, 14.22, 25.29, 44.98, 80, 80]
        np.testing.assert_allclose(research_code_depth(metres), warped, rtol=2e-3)

    def test_no_measurement_stays_and_clipped_depth_counts(self):
        found = research_code_depth(np.array([0, 80, 1e4], np.float32))
        assert found[0] == 0
        assert (found[1:] < np.float32(80)).all()
        assert (found[1:] > 79.999).all()

    def test_true_inverse(self):
        metres = np.geomspace(1e-3, 79, 50).astype(np.float32)
        back = 1e-4 * (research_code_depth(metres) / 1e-3) ** 1.20395
        np.testing.assert_allclose(back, metres, rtol=1e-4)

    def test_table_equals_renaming_in_place(self):
        train = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
        ids = np.arange(34)
        untouched = np.full(34, True)
        for old in range(34):  # in order and in place, as the code does
            hit = (ids == old) & (untouched | (old == 19))
            ids[hit] = train.index(old) if old in train else 19
            untouched &= ~hit
        table = research_code_table()
        assert table == ids.tolist()
        assert sum(value == 6 for value in table) == 1 + 13
        assert [old for old, value in enumerate(table) if value == 19] == [29, 30]


class TestLabelTable:
    def pack(self, table, labels):
        pack = PackDepthInputs(label_table=table)
        found = pack(
            dict(
                img=np.zeros((1, len(labels), 3), np.uint8),
                img_path='street.png',
                gt_seg_map=np.array([labels], np.uint16),
            )
        )
        return found['data_samples'].gt_sem_seg.sem_seg[0, 0].tolist()

    def test_cityscapes(self):
        train = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
        assert self.pack('cityscapes', train) == list(range(19))
        others = [label for label in range(34) if label not in train]
        assert self.pack('cityscapes', [*others, 255]) == [255] * (len(others) + 1)

    def test_the_input_is_not_changed(self):
        labels = np.array([[7, 8, 0]], np.uint8)
        results = dict(
            img=np.zeros((1, 3, 3), np.uint8), img_path='x', gt_seg_map=labels
        )
        PackDepthInputs(label_table='cityscapes')(results)
        assert labels.tolist() == [[7, 8, 0]]

    def test_own_table_and_none(self):
        assert self.pack([1, 0, 255], [0, 1, 2, 255]) == [1, 0, 255, 255]
        assert self.pack(None, [0, 77, 255]) == [0, 77, 255]
        assert self.pack(3, [0, 2, 255]) == [0, 2, 255]

    def test_label_outside_the_table(self):
        with pytest.raises(ValueError, match=r'street.png has the label 34, .*0 to 33'):
            self.pack('cityscapes', [7, 34])
        with pytest.raises(ValueError, match=r'has the label 3, .*0 to 2'):
            self.pack(3, [0, 3])
        with pytest.raises(ValueError, match=r'has the label 300'):
            self.pack(3, np.array([0, 300]))

    def test_unknown_name(self):
        with pytest.raises(ValueError, match='label_table is'):
            PackDepthInputs(label_table='kitti')


def test_crop_larger_than_the_image(scene):
    with pytest.raises(ValueError, match=r'8x16 pixels, smaller than the crop of 9x16'):
        load(scene, dict(type='ExactRandomCrop', crop_size=(16, 9)))
    assert TRANSFORMS.get('ExactRandomCrop') is ExactRandomCrop


def test_crop_of_an_image_resized_before_its_truth_was_loaded(scene):
    resize = dict(type='Resize', scale=(32, 16), keep_ratio=True)
    crop = dict(type='ExactRandomCrop', crop_size=(8, 8))
    steps = [LOAD[0], resize, LOAD[1], dict(type='LoadDepth', scale=0.5), crop]
    with pytest.raises(ValueError, match=r'16x32 pixels .* truth 8x16: put Resize'):
        Compose(steps)(dict(scene))


class TestDataset:
    def test_synthscapes_end_to_end(self, synthscapes):
        found = data_set(synthscapes, test_mode=True)
        assert len(found) == 4
        sample = found[0]['data_samples']
        depth, labels = sample.gt_depth.depth[0], sample.gt_sem_seg.sem_seg[0]
        assert depth.shape == labels.shape == (64, 128)
        sky = found.metainfo['classes'].index('sky')
        assert (depth[labels == sky] == 0).all()
        road = depth[labels == 0]
        assert road.min() > 1
        assert (road < 200).all()
        assert found.metainfo['palette'][0] == (128, 64, 128)

    def test_depth_alone_and_labels_alone(self, synthscapes):
        folders = dict(
            img_path='leftImg8bit/val',
            depth_path='disparity/val',
            camera_path='camera/val',
        )
        found = data_set(synthscapes, data_prefix=folders, test_mode=True)
        assert (found[0]['data_samples'].gt_depth.depth > 0).any()
        folders = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
        found = data_set(synthscapes, data_prefix=folders, test_mode=True)
        assert 'gt_depth' not in found[0]['data_samples']

    def test_list_of_names(self, synthscapes, tmp_path):
        whole = data_set(synthscapes)
        name = re.sub(
            r'.*/val/|_leftImg8bit.png', '', whole.get_data_info(2)['img_path']
        )
        (tmp_path / 'list.txt').write_text(f'{name}\n')
        listed = data_set(synthscapes, ann_file=str(tmp_path / 'list.txt'))
        assert len(listed) == 1
        for kind in ('img_path', 'seg_map_path', 'depth_path', 'camera_path'):
            assert listed.get_data_info(0)[kind] == whole.get_data_info(2)[kind]

    def test_missing_files_are_named_at_the_start(self, synthscapes):
        folders = dict(img_path='leftImg8bit/val', depth_path='depth/val')
        with pytest.raises(FileNotFoundError, match='4 of 4 files of the kind depth'):
            data_set(synthscapes, data_prefix=folders)
        with pytest.raises(FileNotFoundError, match=r'the list .* is missing'):
            data_set(synthscapes, ann_file='no.txt')
        with pytest.raises(FileNotFoundError, match=r'the folder .* is missing'):
            data_set(synthscapes, data_prefix=dict(img_path='none'))
        with pytest.raises(FileNotFoundError, match=r'no image in .* ends in \.jpg'):
            data_set(synthscapes, img_suffix='.jpg')

    def test_ready_maps_in_millimetres(self, tmp_path):
        (tmp_path / 'images').mkdir()
        (tmp_path / 'depth').mkdir()
        cv2.imwrite(str(tmp_path / 'images/a.png'), np.zeros((4, 6, 3), np.uint8))
        cv2.imwrite(str(tmp_path / 'depth/a.png'), np.full((4, 6), 2500, np.uint16))
        found = DepthSegDataset(
            data_prefix=dict(img_path='images', depth_path='depth'),
            data_root=str(tmp_path),
            img_suffix='.png',
            metainfo=dict(classes=('a',)),
            pipeline=[*LOAD[:2], dict(type='LoadDepth', scale=1e-3), PACK],
        )
        assert (found[0]['data_samples'].gt_depth.depth == 2.5).all()

    def test_classes(self):
        assert CityscapesDepthDataset.METAINFO['classes'][:3] == (
            'road',
            'sidewalk',
            'building',
        )
        assert len(CityscapesDepthDataset.METAINFO['classes']) == 19
