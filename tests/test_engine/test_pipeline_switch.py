"""Test mmdet's PipelineSwitchHook, as in RTMDet's configs, on both kinds of images."""

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from pycocotools import mask as mask_utils
from torch import nn

from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.testing import THINGS


class Random(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.weight * torch.rand(1))


class Record(Hook):
    """Record branch, image, size and number of objects of each sample."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        assert runner.iter < 18
        self.seen[runner.iter] = [
            (branch, sample.img_id, sample.img_shape, len(sample.gt_instances))
            for branch, samples in data_batch['data_samples'].items()
            for sample in samples
            if sample is not None
        ]


def steps(width):
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='RandomResize', scale=(width, width), ratio_range=(1, 2)),
        dict(type='PackDetInputs'),
    ]


def train(work_dir, data, workers, *, teacher=None, **arguments):
    """Train three epochs; the second one has smaller images."""
    labels = {}
    if teacher is not None:
        labels = dict(pseudo_labels=dict(score_thr=0.5))
    images = dict(data_prefix=dict(img='leftImg8bit/train/'), data_root=str(data))
    dataset = dict(
        type='SemiSupervisedDataset',
        labeled_dataset=dict(
            type='ListedCocoDataset',
            ann_file='annotations/instancesonly_filtered_gtFine_train.json',
            image_list='splits/labeled.txt',
            metainfo=THINGS,
            pipeline=steps(128),
            **images,
        ),
        unlabeled_dataset=dict(
            type='ImageListDataset', ann_file='splits/unlabeled.txt', **images
        ),
        **labels,
    )
    record = Record()
    Runner(
        model=Random(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dataset,
            batch_size=2,
            sampler=dict(type='LabeledUnlabeledSampler'),
            **workers,
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[
            dict(type='RandomStateHook'),
            dict(type='PipelineSwitchHook', switch_epoch=1, switch_pipeline=steps(32)),
            *([dict(type='PseudoLabelHook', teacher=str(teacher))] if teacher else []),
            record,
        ],
        randomness=dict(seed=3),
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{id(record)}',
        **arguments,
    ).train()
    return record.seen


@pytest.fixture(scope='module')
def straight(synthscapes, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('straight')
    return work_dir, train(work_dir, synthscapes, dict(num_workers=0))


def test_both_kinds_of_images_get_the_other_pipeline(straight):
    _, seen = straight
    assert sorted(seen) == [*range(18)]
    for t, samples in seen.items():
        labeled, unlabeled = samples
        assert (labeled[0], unlabeled[0]) == ('sup', 'unsup')
        assert labeled[3] > 0
        assert unlabeled[3] == 0
        for *_, (_, width), _ in samples:
            assert 128 <= width <= 256 if t < 6 else 32 <= width <= 64


@pytest.mark.parametrize('persistent', [True, False])
def test_workers_switch_at_the_same_image(persistent, straight, synthscapes, tmp_path):
    workers = dict(num_workers=1, persistent_workers=persistent)
    assert train(tmp_path, synthscapes, workers) == straight[1]


@pytest.mark.parametrize('epoch', [1, 2])
def test_resumed_run_has_switched(epoch, straight, synthscapes, tmp_path):
    work_dir, seen = straight
    middle = str(work_dir / f'epoch_{epoch}.pth')
    found = train(
        tmp_path, synthscapes, dict(num_workers=0), load_from=middle, resume=True
    )
    assert found == {t: seen[t] for t in range(6 * epoch, 18)}


def test_pseudo_labels_stay_those_of_the_teacher(straight, synthscapes, tmp_path):
    """The hook alone knows the store, since the config names none."""
    store = PseudoLabelStore.create(
        tmp_path / 'pseudo_labels',
        classes=THINGS.classes,
        teacher=Teacher('t.py', 't.pth', '0'),
    )
    rle = mask_utils.encode(np.ones((64, 128), np.uint8, order='F'))
    names = (synthscapes / 'splits/unlabeled.txt').read_text().split()
    for name in names:
        store.write(name, (64, 128), [0], [0.9], [[0, 0, 128, 64]], [rle])
    found = train(
        tmp_path / 'run',
        synthscapes,
        dict(num_workers=0),
        teacher=tmp_path / 'teacher.pth',
    )
    for t, (labeled, unlabeled) in found.items():
        assert labeled == straight[1][t][0]
        assert unlabeled[:3] == straight[1][t][1][:3]
        assert unlabeled[3] == 1
