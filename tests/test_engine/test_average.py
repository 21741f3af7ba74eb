"""Test that what EMAHook validates is exported, and that it averages once."""

import pytest
import torch
from mmengine.hooks import Hook
from tiny_pair import (
    Pair,
    Watch,
    evaluation,
    guided,
    hook,
    make_runner,
    random_inputs,
    same_state,
    state,
)

from mmcast.checkpoints import export_part, read_checkpoint

MOMENTUM = 0.3


class Record(Hook):
    """Record metrics, and the student's weights after each iteration."""

    priority = 'HIGH'

    def __init__(self):
        self.metrics = {}
        self.students = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.students.append(state(runner.model.student))

    def after_val_epoch(self, runner, metrics=None):
        self.metrics[runner.iter] = metrics


def average_hook(**arguments):
    return dict(type='EMAHook', momentum=MOMENTUM, **arguments)


def mean_prediction(network):
    """Evaluate a network by hand as `evaluation` does."""
    inputs = torch.stack([each['inputs'] for each in random_inputs(4)])
    with torch.no_grad():
        return network.eval()(inputs).mean().item()


def loaded(path):
    """Build the network of an exported file."""
    network = Pair().student
    network.load_state_dict(read_checkpoint(path)['state_dict'])
    return network


@pytest.mark.parametrize('buffers', [True, False])
@pytest.mark.parametrize('validates', [True, False])
def test_average_is_exported(buffers, validates, tmp_path):
    model, record = Pair(), Record()
    make_runner(
        tmp_path,
        model,
        [average_hook(update_buffers=buffers), record, dict(type='ExportHook')],
        max_iters=6,
        **evaluation('val', 'ValLoop') if validates else {},
    ).train()
    exported = read_checkpoint(tmp_path / 'student.pth')['state_dict']
    expected = record.students[0]
    for student in record.students[1:]:
        for name, value in student.items():
            averaged = buffers or not name.startswith(('1.running', '1.num'))
            if averaged and value.is_floating_point():
                expected[name] = (1 - MOMENTUM) * expected[name] + MOMENTUM * value
            elif not averaged:
                expected[name] = value
    for name, value in exported.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name])
    # Training could go on: the student has its own weights again.
    assert same_state(state(model.student), record.students[-1])
    assert not torch.equal(exported['0.weight'], record.students[-1]['0.weight'])
    if validates:
        found = mean_prediction(loaded(tmp_path / 'student.pth'))
        assert record.metrics[6]['test/mean'] == pytest.approx(found, rel=1e-6)

    # The checkpoint has the average as the model's weights, and so has its export.
    export_part(tmp_path / 'iter_6.pth', tmp_path / 'by_hand.pth')
    by_hand = read_checkpoint(tmp_path / 'by_hand.pth')['state_dict']
    assert same_state(by_hand, exported)


def train_guided(work_dir, model, hooks, **arguments):
    watch, record = Watch(), Record()
    make_runner(
        work_dir,
        model,
        [hook(burn_in_iters=3), watch, record, *hooks],
        **evaluation('val', 'TeacherStudentValLoop'),
        **arguments,
    ).train()
    return watch, record


def test_teacher_is_not_averaged_twice(tmp_path):
    """Compare with the same run without EMAHook; validate both networks."""
    average = [average_hook(), dict(type='ExportHook')]
    model, teacher_file = guided(), dict(type='ExportHook', part='teacher', out='t.pth')
    watch, record = train_guided(tmp_path / 'with', model, [*average, teacher_file])
    other, alone = guided(), {}
    alone['watch'], alone['record'] = train_guided(tmp_path / 'without', other, [])
    assert watch.seen.keys() == alone['watch'].seen.keys()
    for t, found in watch.seen.items():
        assert same_state(found, alone['watch'].seen[t]), t
    assert same_state(state(model), state(other))
    metrics, without = (each.metrics[10] for each in (record, alone['record']))
    assert metrics['teacher/test/mean'] == without['teacher/test/mean']
    assert metrics['student/test/mean'] != without['student/test/mean']
    for name, file in (('teacher', 't'), ('student', 'student')):
        found = mean_prediction(loaded(tmp_path / f'with/{file}.pth'))
        assert metrics[f'{name}/test/mean'] == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize('middle', [2, 5])
def test_resumed_average_is_identical(middle, tmp_path):
    train_guided(tmp_path / 'straight', guided(), [average_hook()])
    train_guided(
        tmp_path / 'resumed',
        Pair(seed=1),
        [average_hook()],
        load_from=str(tmp_path / f'straight/iter_{middle}.pth'),
        resume=True,
    )
    straight, resumed = (
        read_checkpoint(tmp_path / name / 'iter_10.pth')
        for name in ('straight', 'resumed')
    )
    for part in ('state_dict', 'ema_state_dict'):
        assert same_state(straight[part], resumed[part])
