"""Test that `num_workers=0` is enough in a config that has settings of workers."""

import pytest
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmcast.compat import no_workers

OF_WORKERS = dict(persistent_workers=True, prefetch_factor=4)


def build(**changes):
    config = dict(
        dataset=[*range(6)],
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        **OF_WORKERS,
    )
    return Runner.build_dataloader({**config, **changes}, seed=1)


@pytest.mark.parametrize('changes', [{}, dict(num_workers=0)])
def test_without_workers(changes):
    loader = build(**changes)
    assert (loader.num_workers, loader.persistent_workers) == (0, False)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_with_workers():
    loader = build(num_workers=1)
    assert {name: getattr(loader, name) for name in OF_WORKERS} == OF_WORKERS
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_loader_that_somebody_built_stays():
    loader = DataLoader([1, 2])
    assert Runner.build_dataloader(loader) is loader


@pytest.mark.parametrize('name', OF_WORKERS)
def test_gap_is_there(name):
    with pytest.raises(ValueError, match=name):
        DataLoader([1], num_workers=0, **{name: OF_WORKERS[name]})


def test_second_call_changes_nothing():
    before = Runner.build_dataloader
    no_workers.apply()
    assert Runner.build_dataloader is before
