"""A sample's random numbers depend on its place in the stream alone."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from mmdet.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader

from mmcast.datasets.seeding import (
    MODEL,
    SAMPLES,
    PlacedIndex,
    seed_everything,
    seed_sample,
)


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_index_is_an_int_that_survives_a_pipe():
    index = pickle.loads(pickle.dumps(PlacedIndex(5, place=7, seed=3)))
    assert (index, index.place, index.seed) == (5, 7, 3)
    assert ['a', 'b', 'c'][PlacedIndex(1, 0, 0)] == 'b'


def test_same_key_same_numbers_in_all_three_generators():
    keys = [(0, SAMPLES, 0), (0, SAMPLES, 1), (1, SAMPLES, 0), (0, MODEL, 0, 0)]
    found = []
    for key in keys * 2:
        seed_everything(*key)
        found.append(draw())
    assert found[:4] == found[4:]
    for numbers in zip(*found[:4], strict=True):
        assert len(set(numbers)) == 4


def test_plain_index_leaves_the_generators_alone():
    seed_everything(0, MODEL)
    expected = draw()
    seed_everything(0, MODEL)
    seed_sample(3)
    assert draw() == expected


class Draws(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        seed_sample(index)
        return int(index), *draw()


@pytest.mark.parametrize('workers', [0, 2])
def test_stream_is_the_same_for_any_number_of_workers(workers):
    def first(count, num_workers):
        sampler = DATA_SAMPLERS.build(
            dict(type='PlacedInfiniteSampler', dataset=Draws(), seed=4)
        )
        loader = DataLoader(Draws(), 2, sampler=sampler, num_workers=num_workers)
        rows = itertools.islice(iter(loader), count)
        return [tuple(part.tolist()) for row in rows for part in row]

    assert first(8, workers) == first(8, 0)


def test_ranks_share_one_stream(monkeypatch):
    def places(rank, world):
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info', lambda: (rank, world)
        )
        sampler = DATA_SAMPLERS.build(
            dict(type='PlacedInfiniteSampler', dataset=Draws(), seed=4)
        )
        return [(int(i), i.place, i.seed) for i in itertools.islice(iter(sampler), 10)]

    alone = [(int(i), i) for i, *_ in places(0, 1)]
    assert sorted(places(0, 2) + places(1, 2), key=lambda row: row[1])[:10] == places(
        0, 1
    )
    assert len(alone) == 10
