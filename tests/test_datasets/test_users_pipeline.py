"""Test labelled and unlabelled images under the pipeline of a user's own data set."""

import json
import re

import numpy as np
import pytest
import torch
from mmdet.datasets import ConcatDataset
from mmdet.engine.hooks import PipelineSwitchHook
from mmdet.registry import DATASETS
from mmdet.structures.mask import PolygonMasks
from mmengine.dataset import Compose
from pycocotools import mask as mask_utils

from mmcast.datasets import semi_supervised
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.seeding import PlacedIndex
from mmcast.datasets.semi_supervised import leaves

CLASSES = ('person', 'car')
LOAD = [
    dict(type='LoadImageFromFile', color_type='color'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
]
VIEW = [
    dict(type='Resize', scale=(64, 48), keep_ratio=False),
    dict(type='RandomFlip', prob=1.0),
]
PACK = [dict(type='PackDetInputs')]
EVERY = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')


def labelled(root, pipeline=None, **more):
    """Return a stock data set, as in a user's config."""
    return dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='annotations/instancesonly_filtered_gtFine_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        metainfo=dict(classes=EVERY),
        pipeline=pipeline or [*LOAD, *VIEW, *PACK],
        **more,
    )


@pytest.fixture
def unlabelled(synthscapes, tmp_path):
    """Return a list of images, and a store with a square of class 2 in each."""
    names = (synthscapes / 'splits/unlabeled.txt').read_text().split()
    store = PseudoLabelStore.create(
        tmp_path / 'store', classes=EVERY, teacher=Teacher('t.py', 't.pth', '0' * 64)
    )
    square = np.zeros((64, 128), np.uint8, order='F')
    square[16:32, 16:48] = 1
    for name in names:
        store.write(
            name,
            size=(64, 128),
            labels=[2],
            scores=[0.9],
            bboxes=[[16, 16, 48, 32]],
            masks_rle=[mask_utils.encode(square)],
        )
    data = dict(
        type='ImageListDataset',
        data_root=str(synthscapes),
        data_prefix=dict(img='leftImg8bit/train/'),
        ann_file='splits/unlabeled.txt',
    )
    return dict(
        unlabeled_dataset=data, pseudo_labels=dict(store=str(tmp_path / 'store'))
    )


def build(labeled, unlabelled, **more):
    return DATASETS.build(
        dict(
            type='SemiSupervisedDataset',
            labeled_dataset=labeled,
            leave_out_labeled=False,
            **unlabelled,
            **more,
        )
    )


def of_square(item):
    """Check an unlabelled item: the square, resized by 0.5 x 0.75 and flipped."""
    assert item['inputs']['sup'] is None
    assert item['inputs']['unsup'].shape == (3, 48, 64)
    (box,) = item['data_samples']['unsup'].gt_instances.bboxes.tensor.tolist()
    assert box == [64 - 24, 12, 64 - 8, 24]
    assert item['data_samples']['unsup'].gt_instances.labels.tolist() == [2]
    return True


def test_unlabelled_images_get_the_same_pipeline(synthscapes, unlabelled):
    dataset = build(labelled(synthscapes), unlabelled)
    stock = DATASETS.build(labelled(synthscapes))
    first, expected = dataset[0], stock[0]
    assert torch.equal(first['inputs']['sup'], expected['inputs'])
    found, truth = first['data_samples']['sup'], expected['data_samples']
    assert torch.equal(
        found.gt_instances.bboxes.tensor, truth.gt_instances.bboxes.tensor
    )
    assert found.metainfo == truth.metainfo
    assert of_square(dataset[len(stock)])
    # It has the labelled one's classes.
    assert dataset.metainfo['classes'] == EVERY
    assert dataset.datasets[1].metainfo['classes'] == EVERY


@pytest.mark.parametrize('alone', [False, True])
def test_rles_are_loaded_as_pixels(synthscapes, unlabelled, alone, monkeypatch):
    """mmdet marks an RLE as ignored without a word, as many stock configs load."""
    polygons = [LOAD[0], dict(LOAD[1], poly2mask=False), *VIEW, *PACK]
    lost = DATASETS.build(labelled(synthscapes, polygons))[0]['data_samples']
    assert not len(lost.gt_instances)
    assert len(lost.ignored_instances)
    said = []
    monkeypatch.setattr(
        semi_supervised, 'print_log', lambda text, **_: said.append(text)
    )
    dataset = build(labelled(synthscapes, polygons), {} if alone else unlabelled)
    assert re.match(r'(\d+) of \1 labelled objects have an RLE', said[0])
    found = dataset[0]['data_samples']
    found = found if alone else found['sup']
    expected = DATASETS.build(labelled(synthscapes))[0]['data_samples']
    assert len(found.gt_instances) == len(lost.ignored_instances)
    masks = found.gt_instances.masks.masks
    assert (masks == expected.gt_instances.masks.masks).all()


def test_polygons_stay_polygons(synthscapes, unlabelled, tmp_path):
    file = synthscapes / 'annotations/instancesonly_filtered_gtFine_train.json'
    content = json.loads(file.read_text())
    for each in content['annotations']:
        x, y, w, h = each['bbox']
        each['segmentation'] = [[x, y, x + w, y, x + w, y + h]]
    changed = tmp_path / 'polygons.json'
    changed.write_text(json.dumps(content))
    polygons = [LOAD[0], dict(LOAD[1], poly2mask=False), *VIEW, *PACK]
    data = dict(labelled(synthscapes, polygons), ann_file=str(changed))
    sample = build(data, unlabelled)[0]['data_samples']['sup']
    assert isinstance(sample.gt_instances.masks, PolygonMasks)
    assert len(sample.gt_instances)


def test_a_pipeline_with_mosaic_and_mixup(synthscapes, unlabelled):
    """RTMDet's, whose transforms remember images: of their own source alone."""
    mixed = [
        *LOAD,
        dict(type='CachedMosaic', img_scale=(64, 48), pad_val=114.0),
        dict(type='RandomCrop', crop_size=(64, 48), allow_negative_crop=True),
        dict(type='CachedMixUp', img_scale=(64, 48), max_cached_images=5),
        *PACK,
    ]
    dataset = build(labelled(synthscapes, mixed), unlabelled)
    for _ in range(3):
        assert dataset[0]['inputs']['sup'].shape == (3, 48, 64)
        unsup = dataset[len(dataset) - 1]['data_samples']['unsup']
        assert set(unsup.gt_instances.labels.tolist()) <= {2}
    caches = [
        {
            info['img_path']
            for step in part.pipeline.transforms
            for info in getattr(step, 'results_cache', [])
        }
        for part in leaves(dataset)
    ]
    assert caches[0]
    assert caches[1]
    assert not caches[0] & caches[1]


@pytest.mark.parametrize('wrap', ['repeat', 'concat', 'copy_paste'])
def test_wrapped_data_sets(synthscapes, unlabelled, wrap):
    plain = labelled(synthscapes)
    count = len(DATASETS.build(plain))
    if wrap == 'repeat':
        config = dict(type='RepeatDataset', times=3, dataset=plain)
        lengths = [3 * count, 8]
    elif wrap == 'concat':
        config = dict(type='ConcatDataset', datasets=[plain, plain])
        lengths = [2 * count, 8]
    else:
        # mmdet's Mosaic and MixUp leave masks as they are; CachedMosaic does not.
        mix = dict(type='CopyPaste', max_num_pasted=2)
        config = dict(
            type='MultiImageMixDataset',
            dataset=labelled(synthscapes, [*LOAD, VIEW[0]]),
            pipeline=[mix, VIEW[1], *PACK],
        )
        lengths = [count, 8]
    dataset = build(config, unlabelled)
    assert [len(part) for part in dataset.datasets] == lengths
    item = dataset[len(dataset) - 1]
    labels = item['data_samples']['unsup'].gt_instances.labels
    assert set(labels.tolist()) == {2}  # nothing of a labelled image is pasted
    assert len(dataset[0]['data_samples']['sup'].gt_instances) > 0


def test_every_unreadable_image_is_reported(synthscapes, unlabelled, tmp_path):
    """Its replacement may be discarded for want of labels, or be one of a mix."""
    names = [f'{i}.png' for i in range(6)]
    image = next((synthscapes / 'leftImg8bit/train').rglob('*.png')).read_bytes()
    for name in names:
        (tmp_path / name).write_bytes(b'no image' if name == '0.png' else image)
    (tmp_path / 'names.txt').write_text('\n'.join(names))
    store = PseudoLabelStore.open(unlabelled['pseudo_labels']['store'])
    for name in names[1:5]:
        store.write(name, (64, 128), [], [], [], [])
    square = np.zeros((64, 128), np.uint8, order='F')
    square[16:32, 16:48] = 1
    mask = mask_utils.encode(square)
    store.write(names[5], (64, 128), [2], [0.9], [[16, 16, 48, 32]], [mask])
    unlabelled['unlabeled_dataset'].update(
        data_root=str(tmp_path), data_prefix=dict(img=''), ann_file='names.txt'
    )
    mix = dict(
        type='MultiImageMixDataset',
        dataset=labelled(synthscapes, LOAD),
        pipeline=[dict(type='CopyPaste'), *PACK],
    )
    for config in (labelled(synthscapes), mix):
        dataset = build(config, unlabelled)
        first = len(dataset) - len(names)
        told = []
        for place in range(20):
            broken, good = (
                dataset[PlacedIndex(index, place, 0)]['data_samples']['unsup']
                for index in (first, first + 5)
            )
            assert f'{tmp_path}/0.png (no image)' in broken.unreadable
            told += good.get('unreadable', [])
        assert bool(told) == (config is mix)
        assert 'unreadable' not in dataset[0]['data_samples']['sup']


def test_labelled_images_are_left_out_of_a_mixed_folder(synthscapes, unlabelled):
    """A wrapper then has the new length."""
    unlabelled['unlabeled_dataset']['ann_file'] = ''
    mix = dict(
        type='MultiImageMixDataset',
        dataset=labelled(synthscapes, LOAD),
        pipeline=[*VIEW, *PACK],
    )
    names = json.loads(
        (
            synthscapes / 'annotations/instancesonly_filtered_gtFine_train.json'
        ).read_text()
    )['images']
    path = synthscapes / 'four.json'
    content = json.loads(
        (
            synthscapes / 'annotations/instancesonly_filtered_gtFine_train.json'
        ).read_text()
    )
    path.write_text(json.dumps({**content, 'images': content['images'][:4]}))
    mix['dataset']['ann_file'] = 'four.json'
    dataset = DATASETS.build(
        dict(type='SemiSupervisedDataset', labeled_dataset=mix, **unlabelled)
    )
    labeled = len(dataset.datasets[0])
    assert [len(part) for part in dataset.datasets] == [labeled, len(names) - labeled]
    assert len(dataset) == dataset.cumulative_sizes[-1] == len(names)


def test_a_switched_pipeline_is_that_of_both_sources(synthscapes, unlabelled):
    first = [*LOAD, dict(type='Resize', scale=(32, 32)), *PACK]
    dataset = build(labelled(synthscapes, first), unlabelled)
    hook = PipelineSwitchHook(1, [*LOAD, *VIEW, *PACK])
    # What the hook does.
    dataset.pipeline = Compose(hook.switch_pipeline)
    assert dataset[0]['inputs']['sup'].shape == (3, 48, 64)
    assert of_square(dataset[len(dataset) - 1])
    assert isinstance(dataset, ConcatDataset)


@pytest.mark.parametrize(
    ('pipeline', 'message'),
    [
        (LOAD[:1] + VIEW + PACK, 'the sup images has no LoadAnnotations'),
        (LOAD + VIEW, 'the sup images has no PackDetInputs'),
        (
            [LOAD[0], dict(type='LoadAnnotations', with_bbox=True), *PACK],
            'loads no masks: set with_bbox=True and with_mask=True',
        ),
    ],
)
def test_a_pipeline_that_cannot_work_is_refused(
    synthscapes, unlabelled, pipeline, message
):
    with pytest.raises(ValueError, match=message):
        build(labelled(synthscapes, pipeline), unlabelled)


def test_a_store_of_other_classes_is_refused(synthscapes, unlabelled):
    """Without PseudoLabelHook nobody else would notice."""
    config = labelled(synthscapes) | dict(metainfo=dict(classes=EVERY[::-1]))
    dataset = build(config, unlabelled)
    with pytest.raises(ValueError, match='classes'):
        dataset[len(dataset) - 1]


def test_an_unlabelled_image_is_cropped_anywhere(synthscapes, unlabelled):
    """mmdet's RandomCrop, as RTMDet-Ins has it, returns no image without boxes."""
    crop = dict(type='RandomCrop', crop_size=(32, 32))
    view = [
        dict(type='RandomChoice', transforms=[[crop], [crop, VIEW[1]]]),
        dict(type='RandomApply', transforms=[crop], prob=1.0),
    ]
    online = dict(unlabelled, pseudo_labels=None)
    dataset = build(labelled(synthscapes, [*LOAD, *view, *PACK]), online)
    seen = [
        dataset[PlacedIndex(len(dataset.datasets[0]) + n, n, 0)]
        for n in range(len(dataset.datasets[1]))
    ]
    assert {item['inputs']['unsup'].shape for item in seen} == {(3, 32, 32)}
    # A labelled crop still shows an object, and so does one with stored labels.
    choice, apply = dataset.datasets[0].pipeline.transforms[2:4]
    assert not apply.transforms.transforms[0].allow_negative_crop
    assert not choice.transforms[0].transforms[0].allow_negative_crop
    stored = build(labelled(synthscapes, [*LOAD, crop, *PACK]), unlabelled)
    assert not stored.datasets[1].pipeline.transforms[2].allow_negative_crop


def test_load_image_goes_with_a_weak_view(synthscapes, unlabelled):
    with pytest.raises(ValueError, match='load_image goes with weak_view'):
        build(
            labelled(synthscapes), unlabelled, load_image=dict(color_type='unchanged')
        )
