"""Test that a model is built whole, from a config and a plain checkpoint."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmcast.apis import load_model
from mmcast.apis.load_model import settings_digest
from mmcast.checkpoints import read_checkpoint, save_plain

CONFIGS = Path(__file__).parents[2] / 'configs/mmcast'
TEACHER = CONFIGS / 'weights/synthscapes_teacher.pth'


def test_a_foundation_teacher_needs_no_weights_of_the_contrast():
    model = load_model(CONFIGS / 'adapt_synthscapes.py', TEACHER)
    assert model.pixel_contrast is None
    assert not model.training
    stored = read_checkpoint(TEACHER)['state_dict']
    loaded = model.state_dict()
    assert loaded.keys() == stored.keys()
    for name, value in stored.items():
        torch.testing.assert_close(loaded[name], value.to(loaded[name].dtype))


def test_a_config_with_a_teacher_gives_the_student(tmp_path):
    config = CONFIGS / 'distill_synthscapes.py'
    student = MODELS.build(Config.fromfile(config).model.student)
    file = tmp_path / 'student.pth'
    meta = dict(dataset_meta=dict(classes=('a',) * 8))
    save_plain(student.state_dict(), meta, file)
    model = load_model(config, file)
    wanted = {
        name: value
        for name, value in student.state_dict().items()
        if not name.startswith('pixel_contrast.')
    }
    torch.testing.assert_close(model.state_dict(), wanted)
    wanted.pop('backbone.conv1.weight')
    save_plain(wanted, meta, file)
    with pytest.raises(ValueError, match=r'backbone\.conv1\.weight is missing'):
        load_model(config, file)


@pytest.mark.parametrize('missing', ['config', 'checkpoint'])
def test_a_missing_file_is_named(missing):
    files = dict(config=CONFIGS / 'adapt_synthscapes.py', checkpoint=TEACHER)
    files[missing] = 'nowhere/x'
    with pytest.raises(FileNotFoundError, match='nowhere/x does not exist'):
        load_model(**files)


@pytest.mark.parametrize(
    'content', [b'', b'version https://git-lfs.github.com/spec/v1']
)
def test_a_file_that_is_no_checkpoint_is_named(content, tmp_path):
    """torch's own errors are of many kinds, and advise to trust the file."""
    file = tmp_path / 'teacher.pth'
    file.write_bytes(content)
    with pytest.raises(
        ValueError, match=r'teacher\.pth cannot be read as a checkpoint'
    ):
        load_model(CONFIGS / 'adapt_synthscapes.py', file)


def test_checkpoint_and_config_in_the_wrong_order_are_named(tmp_path):
    for name in 'a.py', 'b.pth':
        (tmp_path / name).touch()
    for read in (
        lambda: load_model(tmp_path / 'b.pth', tmp_path / 'a.py'),
        lambda: settings_digest(tmp_path / 'b.pth'),
    ):
        with pytest.raises(ValueError, match=r'b\.pth is no config: give a config, th'):
            read()


def test_a_config_without_a_model_is_named(tmp_path):
    config = tmp_path / 'data.py'
    config.write_text("classes = ('a',)\n")
    with pytest.raises(
        ValueError, match=r'data\.py has no model: give the config of a'
    ):
        load_model(config, TEACHER)
