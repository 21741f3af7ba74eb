"""Labelled and unlabelled images in every batch."""

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine import Config
from mmengine.runner import Runner

from mmcast.datasets import LabeledUnlabeledSampler

CONFIG = 'configs/mmcast/distill_synthscapes.py'


@pytest.fixture
def online(synthscapes):
    """The loader's config for a teacher that labels online: no pseudo-labels."""
    loader = Config.fromfile(CONFIG).train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.pseudo_labels = None
    for source in ('labeled_dataset', 'unlabeled_dataset'):
        loader.dataset[source].data_root = str(synthscapes)
    return loader


def test_without_pseudo_labels_unlabelled_images_come_bare(online):
    dataset = DATASETS.build(online.dataset)
    labeled, unlabeled = dataset[0], dataset[len(dataset) - 1]
    assert len(labeled['data_samples']['sup'].gt_instances) > 0
    assert len(unlabeled['data_samples']['unsup'].gt_instances) == 0
    assert unlabeled['inputs']['unsup'].dtype == torch.uint8


def test_each_batch_has_both(online):
    batch = next(iter(Runner.build_dataloader(online, seed=0)))
    present = {
        branch: sum(image is not None for image in images)
        for branch, images in batch['inputs'].items()
    }
    assert present == {'sup': 4, 'unsup': 4}


@pytest.mark.parametrize(('size', 'ratio'), [(1, [1, 1]), (2, [9, 1])])
def test_a_batch_without_room_for_both_is_told(online, size, ratio):
    dataset = DATASETS.build(online.dataset)
    with pytest.raises(ValueError, match=r'raise train_dataloader\.batch_size'):
        LabeledUnlabeledSampler(dataset, batch_size=size, source_ratio=ratio, seed=0)
