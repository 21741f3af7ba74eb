"""Test that a run stopped by SIGKILL resumes with bit-identical results."""

import multiprocessing
import os
import signal
import zipfile

import pytest
import torch
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import Hook, checkpoint_hook
from tiny_pair import Watch, evaluation, guided, hook, make_runner, same_state, state

from mmcast.checkpoints import read_checkpoint

fork = multiprocessing.get_context('fork')


class Kill(Hook):
    """Kill the own process at a given event in a given iteration."""

    def __init__(self, event, iteration):
        self.iteration = iteration
        setattr(self, event, self.at)

    def at(self, runner, **_):
        if runner.iter == self.iteration:
            kill_myself()


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_while_writing(name, writing):
    """Kill the process half-way through the nth write of a file."""
    put, count = LocalBackend.put, iter(range(1, writing + 1))

    def put_or_die(self, content, path):
        if os.path.basename(path) == name and next(count) == writing:
            with open(path, 'wb') as file:
                file.write(content[: len(content) // 2])
            kill_myself()
        put(self, content, path)

    LocalBackend.put = put_or_die


def kill_while_writing_last_checkpoint(writing):
    """Kill the process during the nth write of ``last_checkpoint``."""
    count = iter(range(1, writing + 1))

    def open_or_die(*arguments):
        file = open(*arguments)  # noqa: SIM115
        if next(count) == writing:
            kill_myself()
        return file

    checkpoint_hook.open = open_or_die


def train(work_dir, hooks=(), seed=0, **arguments):
    """Train with the hooks and the validation of Guided Distillation."""
    watch, model = Watch(), guided(seed)
    hooks = [
        hook(),
        dict(type='ExportHook', part='teacher'),
        dict(type='PreflightHook'),
        watch,
        *hooks,
    ]
    validation = evaluation('val', 'TeacherStudentValLoop')
    make_runner(work_dir, model, hooks, **validation, **arguments).train()
    return watch.seen, state(model)


def train_in_child(first, arguments, options):
    # A forked child may not use the parent's OpenMP threads.
    torch.set_num_threads(1)
    first()
    train(*arguments, **options)


def run_is_killed(*arguments, first=lambda: None, **options):
    """Call ``first()`` and train in a child; return whether SIGKILL ended it."""
    if torch.cuda.is_initialized():
        pytest.skip('a forked child cannot use the GPU')
    process = fork.Process(
        target=train_in_child, args=(first, arguments, options), daemon=True
    )
    process.start()
    process.join(60)
    return process.exitcode == -signal.SIGKILL


def exported(work_dir):
    return read_checkpoint(work_dir / 'student.pth')['state_dict']


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('straight')
    seen, end = train(work_dir)
    assert same_state(seen[4], seen[0])
    assert not same_state(seen[5], seen[4])
    student, teacher = (
        {k.removeprefix(f'{of}.'): v for k, v in end.items() if k.startswith(of)}
        for of in ('student', 'teacher')
    )
    left = exported(work_dir)
    assert all(torch.equal(value, teacher[name]) for name, value in left.items())
    assert not same_state(student, teacher)
    return seen, end, left


def assert_equals_uninterrupted(resumed, uninterrupted, work_dir):
    seen, end = resumed
    for t, teacher in seen.items():
        teacher.pop('constant')  # not in the state dict, so in no checkpoint
        assert all(
            torch.equal(v, uninterrupted[0][t][k]) for k, v in teacher.items()
        ), t
    for name, value in end.items():
        if not name.endswith('constant'):
            assert torch.equal(value, uninterrupted[1][name]), name
    assert same_state(exported(work_dir), uninterrupted[2])


@pytest.mark.parametrize(
    ('event', 'iteration', 'resumes_at'),
    [
        ('before_train_iter', 3, 3),
        ('before_train_iter', 5, 5),
        ('after_train_iter', 5, 5),
        ('before_train_iter', 6, 6),
        ('before_train_iter', 8, 8),
        ('before_val_iter', 10, 10),
        ('after_train', 10, 10),
    ],
)
def test_resume_before_at_and_after_the_switch(
    event, iteration, resumes_at, uninterrupted, tmp_path
):
    """Resume also at iteration 5: its checkpoint has the teacher before the switch."""
    assert run_is_killed(tmp_path, [Kill(event, iteration)])
    assert not (tmp_path / 'student.pth').exists()
    # Another seed, so that equal weights must come from the checkpoint.
    resumed = train(tmp_path, seed=7, resume=True)
    assert sorted(resumed[0]) == list(range(resumes_at, 10))
    assert_equals_uninterrupted(resumed, uninterrupted, tmp_path)


def test_incomplete_checkpoint_is_not_resumed_from(uninterrupted, tmp_path):
    assert run_is_killed(
        tmp_path, first=lambda: kill_while_writing('iter_6.pth', writing=1)
    )
    assert not zipfile.is_zipfile(tmp_path / 'iter_6.pth')
    resumed = train(tmp_path, seed=7, resume=True)
    assert sorted(resumed[0]) == list(range(5, 10))
    assert_equals_uninterrupted(resumed, uninterrupted, tmp_path)


def test_incomplete_last_checkpoint_raises(uninterrupted, tmp_path):
    """Kill the run while it saves the checkpoint again as the best one."""
    assert run_is_killed(
        tmp_path,
        first=lambda: kill_while_writing('iter_5.pth', writing=2),
        val_interval=5,
        checkpoint=dict(save_best='teacher/test/mean', rule='greater'),
    )
    named = (tmp_path / 'last_checkpoint').read_text()
    assert named == str(tmp_path / 'iter_5.pth')
    before = tmp_path / 'iter_4.pth'
    (tmp_path / 'student.pth').write_bytes(before.read_bytes())
    with pytest.raises(ValueError, match='cannot resume') as error:
        train(tmp_path, seed=7, resume=True)
    assert str(error.value) == (
        f'cannot resume: {named} is missing or incomplete, as after a crash while it '
        'was written; resume from the last complete checkpoint with --resume '
        f'{before}'
    )
    with pytest.raises(ValueError, match=f'--resume {before}$'):
        train(tmp_path, seed=7, resume=True, load_from=named)
    resumed = train(tmp_path, seed=7, resume=True, load_from=str(before))
    assert sorted(resumed[0]) == list(range(4, 10))
    assert_equals_uninterrupted(resumed, uninterrupted, tmp_path)


def test_empty_last_checkpoint_file_raises(uninterrupted, tmp_path):
    assert run_is_killed(
        tmp_path, first=lambda: kill_while_writing_last_checkpoint(writing=6)
    )
    last, before = tmp_path / 'last_checkpoint', tmp_path / 'iter_6.pth'
    assert last.read_text() == ''
    message = f'^cannot resume: {last} .* --resume {before}$'
    with pytest.raises(ValueError, match=message):
        train(tmp_path, seed=7, resume=True)
    resumed = train(tmp_path, seed=7, resume=True, load_from=str(before))
    assert sorted(resumed[0]) == list(range(6, 10))
    assert_equals_uninterrupted(resumed, uninterrupted, tmp_path)


def test_no_complete_checkpoint_raises(tmp_path):
    """Keep one checkpoint only: it is removed before the next one is written."""
    assert run_is_killed(
        tmp_path,
        first=lambda: kill_while_writing('iter_6.pth', writing=1),
        checkpoint=dict(max_keep_ckpts=1),
    )
    named = (tmp_path / 'last_checkpoint').read_text()
    assert named == str(tmp_path / 'iter_5.pth')
    message = f'^cannot resume: {named} .*: start without --resume$'
    with pytest.raises(ValueError, match=message):
        train(tmp_path, seed=7, resume=True)
