"""Test that a visualizer without a name can be built without a runner."""

from mmengine.registry import VISUALIZERS
from mmengine.visualization import Visualizer

from mmcast.compat import visualizer_name
from mmcast.testing import load_config


def test_visualizer_of_an_entry_point_is_built_alone():
    config = load_config('distill_synthscapes').visualizer
    assert 'name' not in config
    assert VISUALIZERS.build(config).instance_name == 'visualizer'
    assert VISUALIZERS.build(dict(config, name='mine')).instance_name == 'mine'


def test_second_call_changes_nothing():
    before = Visualizer.get_instance
    visualizer_name.apply()
    assert Visualizer.get_instance == before
