"""Test that no detector predicts with random weights for a wrapper's checkpoint."""

import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from mmdet.apis import DetInferencer, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint

from mmcast.checkpoints import read_checkpoint
from mmcast.compat import wrapper_checkpoints
from mmcast.engine.hooks import PreflightHook
from mmcast.errors import one_line


@pytest.fixture(scope='module')
def wrapped(teacher_world, tmp_path_factory):
    """Save the tiny detector's weights as a training with a teacher does."""
    state = read_checkpoint(teacher_world.checkpoint)['state_dict']
    path = tmp_path_factory.mktemp('work') / 'iter_2.pth'
    both = {
        f'{part}.{name}': value
        for part in ('student', 'teacher')
        for name, value in state.items()
    }
    meta = {'dataset_meta': {'classes': teacher_world.classes}}
    torch.save({'state_dict': both, 'meta': meta}, path)
    return path


def by_runner(world, path):
    runner = Runner(
        model=MODELS.build(world.model),
        work_dir=str(path.parent / 'run'),
        load_from=str(path),
        default_scope='mmdet',
        experiment_name=f'load_{path.stem}',
    )
    runner.load_or_resume()


def by_preflight(world, path):
    model = MODELS.build(world.model)
    testing = dict(_train_loop=None, _test_loop=None, _load_from=str(path))
    PreflightHook().before_run(SimpleNamespace(model=model, **testing))


WAYS = {
    'DetInferencer': lambda world, path: DetInferencer(
        str(world.config), str(path), device='cpu'
    ),
    'init_detector': lambda world, path: init_detector(
        str(world.config), str(path), device='cpu'
    ),
    'runner': by_runner,
    'preflight': by_preflight,
}


@pytest.mark.parametrize('way', WAYS)
def test_message_has_the_command_and_then_the_file(
    way, wrapped, teacher_world, monkeypatch
):
    """Run the command of the first message; the second one names what it leaves."""
    exported = wrapped.with_name('student.pth')
    exported.unlink(missing_ok=True)
    with pytest.raises(ValueError, match='the weights of a training') as error:
        WAYS[way](teacher_world, wrapped)
    message = one_line(error.value)
    assert message.startswith(f'{wrapped} has the weights of a training with a teacher')
    command = message.partition('take the student out with: ')[2].split()
    assert command[0] == 'python'
    monkeypatch.setattr(sys, 'argv', command[1:])
    runpy.run_path(command[1], run_name='__main__')
    with pytest.raises(ValueError, match=f'detector alone.*: give {exported}, which'):
        WAYS[way](teacher_world, wrapped)
    WAYS[way](teacher_world, exported)
    found = init_detector(str(teacher_world.config), str(exported), device='cpu')
    expected = read_checkpoint(teacher_world.checkpoint)['state_dict']
    for name, value in found.state_dict().items():
        assert torch.equal(value, expected[name])


def test_other_files_load_as_ever(wrapped, teacher_world, tmp_path):
    """Load a part of the names, none of them, and the wrapper itself."""
    state = read_checkpoint(wrapped)['state_dict']
    model = MODELS.build(teacher_world.model)
    name = next(iter(model.state_dict()))
    for changed in (
        {**state, name: torch.zeros_like(model.state_dict()[name])},
        {k: v for k, v in state.items() if k != f'student.{name}'},
        {f'{k}_': v for k, v in state.items()},
    ):
        torch.save({'state_dict': changed}, tmp_path / 'x.pth')
        load_checkpoint(model, str(tmp_path / 'x.pth'))
    config = Config.fromfile(teacher_world.config)
    wrapper = MODELS.build(dict(type='SemiSupervisedSegmentor', student=config.model))
    load_checkpoint(wrapper, str(wrapped))
    for key, value in wrapper.state_dict().items():
        assert torch.equal(value, state[key])


def test_another_files_name_is_not_given(wrapped, teacher_world):
    """Load weights that were read another way."""
    from mmengine.runner.checkpoint import _load_checkpoint_to_model

    init_detector(
        str(teacher_world.config), str(teacher_world.checkpoint), device='cpu'
    )
    model = MODELS.build(teacher_world.model)
    with pytest.raises(ValueError, match=r'^the file has the weights of a training'):
        _load_checkpoint_to_model(model, torch.load(wrapped))


def test_second_call_changes_nothing():
    from mmengine.runner import checkpoint

    before = checkpoint.load_state_dict
    wrapper_checkpoints.apply()
    assert checkpoint.load_state_dict is before
