"""Test where masks go that rank 0 reads."""

import sys
import tempfile
from pathlib import Path

import pytest
from mmdet.registry import METRICS

from mmcast.evaluation import SharedCityScapesMetric


@pytest.mark.parametrize('machines', [('a', 'a'), ('a', 'b')])
def test_masks_of_several_machines_go_where_all_find_them(
    machines, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    module = sys.modules[SharedCityScapesMetric.__module__]
    monkeypatch.setattr(module, 'all_gather_object', lambda _: [*machines])
    metric = METRICS.build(dict(type='SharedCityScapesMetric', seg_prefix='gtFine/val'))
    folder = Path(metric.outfile_prefix)
    assert folder.is_dir()
    shared = tmp_path / 'work_dirs'
    home = shared if len({*machines}) > 1 else Path(tempfile.gettempdir())
    assert folder.parents[1] == home
    assert shared.exists() == (home == shared)
    del metric
    assert not folder.exists()
