"""Test batches of labelled and unlabelled images."""

import itertools
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from gloo_ranks import two_ranks
from mmdet.registry import DATASETS
from mmengine import Config
from mmengine.runner import Runner

from mmcast.datasets import LabeledUnlabeledSampler
from mmcast.datasets.samplers import repeat_factors

CONFIG = 'configs/mmcast/distill_synthscapes.py'


@pytest.fixture
def online(synthscapes):
    """Return a loader's config for a teacher that labels online: no pseudo-labels."""
    loader = Config.fromfile(CONFIG).train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    del loader.dataset['pseudo_labels']
    for source in ('labeled_dataset', 'unlabeled_dataset'):
        loader.dataset[source].data_root = str(synthscapes)
    return loader


def test_unlabelled_images_have_no_instances(online):
    dataset = DATASETS.build(online.dataset)
    labeled, unlabeled = dataset[0], dataset[len(dataset) - 1]
    assert len(labeled['data_samples']['sup'].gt_instances) > 0
    assert len(unlabeled['data_samples']['unsup'].gt_instances) == 0
    assert unlabeled['inputs']['unsup'].dtype == torch.uint8


def test_each_batch_has_both_sources(online):
    batch = next(iter(Runner.build_dataloader(online, seed=0)))
    present = {
        branch: sum(image is not None for image in images)
        for branch, images in batch['inputs'].items()
    }
    assert present == {'sup': 1, 'unsup': 7}


@pytest.mark.parametrize('ratio', [[1, 0], [1], [0.5, 0.5], [1, 1, 1]])
def test_invalid_source_ratio_raises(online, ratio):
    dataset = DATASETS.build(online.dataset)
    with pytest.raises(ValueError, match='must be two positive integers'):
        LabeledUnlabeledSampler(dataset, source_ratio=ratio, seed=0)


def test_batches_without_an_unlabelled_data_set(online):
    del online.dataset['unlabeled_dataset']
    loader = Runner.build_dataloader(online, seed=0)
    assert len(loader.dataset) == 4
    batch = next(iter(loader))
    assert len(batch['inputs']) == 8
    paths = Counter(sample.img_path for sample in batch['data_samples'])
    assert set(paths.values()) == {2}  # two epochs of four images
    assert all(len(sample.gt_instances) for sample in batch['data_samples'])


class Labelled(list):
    """A list of the classes of each image; a negative class marks a crowd."""

    def get_data_info(self, index):
        return dict(
            instances=[
                dict(bbox_label=abs(label), ignore_flag=int(label < 0))
                for label in self[index]
            ]
        )


# Ten images: eight show class 0, two show class 1, one shows class 2.
IMAGES = Labelled([[0]] * 5 + [[0, 0, 1], [0, 1], [0, 2, -1]] + [[], [-2]])


def sampler(**kwargs):
    images = SimpleNamespace(datasets=[IMAGES, [0] * 7], cumulative_sizes=[10, 17])
    options = dict(source_ratio=[5, 3], seed=5, repeat_thr=10.0)
    return LabeledUnlabeledSampler(images, **options | kwargs)


def test_repeat_factor_is_that_of_the_rarest_class():
    classes = [{0}] * 5 + [{0, 1}, {0, 1}, {0, 2}] + [set(), set()]
    common, rare, rarest = (10 / 0.8) ** 0.5, (10 / 0.2) ** 0.5, (10 / 0.1) ** 0.5
    assert repeat_factors(classes, 10.0) == pytest.approx(
        [common] * 5 + [rare, rare, rarest, 1, 1]
    )
    # Only classes with a share below the threshold are repeated.
    assert repeat_factors(classes, 0.2) == pytest.approx([1] * 7 + [2**0.5, 1, 1])


def test_images_are_repeated_by_their_factors():
    """Expect the integer part of the factor per epoch, and one more at random."""
    factors = [(10 / 0.8) ** 0.5] * 5 + [50**0.5] * 2 + [10.0, 1.0, 1.0]
    in_order = sampler(shuffle=False)._repeated_indices(factors)
    epochs, previous = [Counter()], 0
    while len(epochs) <= 400:
        index = next(in_order)
        if index < previous:
            epochs.append(Counter())
        epochs[-1][index] += 1
        previous = index
    for image, factor in enumerate(factors):
        counts = [epoch[image] for epoch in epochs[:400]]
        assert set(counts) == {math.floor(factor), math.ceil(factor)}
        assert sum(counts) / 400 == pytest.approx(factor, abs=0.1)
    shuffled = list(itertools.islice(sampler()._repeated_indices(factors), 40))
    assert shuffled != sorted(shuffled)


def test_only_labelled_images_are_repeated():
    drawn = list(itertools.islice(iter(sampler()), 8 * 70))
    batches = [drawn[i : i + 8] for i in range(0, len(drawn), 8)]
    assert all(max(batch[:5]) < 10 and 10 <= min(batch[5:]) < 17 for batch in batches)
    unlabelled = Counter(index for batch in batches for index in batch[5:])
    assert set(unlabelled.values()) == {30}
    labelled = Counter(index for batch in batches for index in batch[:5])
    assert labelled[7] > labelled[6] > labelled[0] > labelled[8] > 0
    assert abs(labelled[9] - labelled[8]) <= 1  # crowds do not count
    assert drawn == list(itertools.islice(iter(sampler()), 8 * 70))
    assert drawn != list(itertools.islice(iter(sampler(seed=6)), 8 * 70))


def test_two_ranks_share_the_stream_of_one_process(tmp_path):
    alone = sampler()
    expected = [list(itertools.islice(alone.source2inds[s], 60)) for s in range(2)]

    def work(rank):
        own = sampler()
        for source in range(2):
            drawn = list(itertools.islice(own.source2inds[source], 30))
            assert drawn == expected[source][rank::2]

    assert two_ranks(work, tmp_path) == [0, 0]


def test_non_positive_threshold_raises():
    with pytest.raises(ValueError, match=r'repeat_thr=0\.0 must be positive'):
        sampler(repeat_thr=0.0)
