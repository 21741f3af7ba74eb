"""Test that a run stopped by SIGKILL resumes with bit-identical results."""

import errno
import json
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
from mmcast.compat.whole_checkpoints import _delete_last

SWITCH = 4  # where the student of seed 5 passes its teacher
DENSER = dict(dynamic_intervals=[(3, 2)])  # then each second one, already at 2
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


def train(work_dir, hooks=(), seed=0, update=None, **arguments):
    """Train with the hooks and the validation of Guided Distillation."""
    watch, model = Watch(), guided(seed)
    hooks = [
        hook(**update or {}),
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


@pytest.mark.parametrize(
    ('event', 'iteration'),
    [
        ('before_val_iter', SWITCH - 2),
        ('before_train_iter', SWITCH - 1),
        ('before_val_iter', SWITCH),  # its checkpoint has been written
        ('before_train_iter', SWITCH),
        ('before_train_iter', SWITCH + 1),
    ],
)
@pytest.mark.parametrize(
    'intervals',
    [dict(val_interval=2), dict(val_interval=7, schedule=DENSER)],
    ids=['one interval', 'two'],
)
def test_resume_finds_the_switch_that_waits_for_the_student(
    event, iteration, intervals, tmp_path
):
    waits = dict(update=dict(burn_in_iters=0, burn_in_metric='test/mean'), **intervals)
    seen, end = train(tmp_path / 'straight', seed=5, **waits)
    moved = [t for t in range(1, 10) if not same_state(seen[t], seen[0])]
    assert moved == list(range(SWITCH, 10))
    killed = tmp_path / 'killed'
    assert run_is_killed(killed, [Kill(event, iteration)], seed=5, **waits)
    resumed = train(killed, seed=7, resume=True, **waits)
    assert sorted(resumed[0]) == list(range(iteration, 10))
    left = exported(tmp_path / 'straight')
    assert_equals_uninterrupted(resumed, (seen, end, left), killed)


def test_a_teacher_that_waited_is_replaced_and_not_averaged(tmp_path):
    """The wait ends with other settings under --resume."""
    waits = dict(burn_in_iters=0, burn_in_metric='test/mean')
    seen, _ = train(tmp_path, seed=6, update=waits, val_interval=2, max_iters=6)
    assert same_state(seen[5], seen[0])
    student = read_checkpoint(tmp_path / 'iter_6.pth')['state_dict']
    resumed, _ = train(tmp_path, seed=7, update=dict(burn_in_iters=0), resume=True)
    for name, value in resumed[6].items():
        if name != 'constant':
            assert torch.equal(value, student[f'student.{name}']), name


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
    assert run_is_killed(
        tmp_path, first=lambda: kill_while_writing('iter_1.pth', writing=1)
    )
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_1.pth'))
    message = f'^cannot resume: {tmp_path / "iter_1.pth"} .*: start without --resume$'
    with pytest.raises(ValueError, match=message):
        train(tmp_path, seed=7, resume=True)


def kill_while_renaming(name, renaming):
    """Kill the process before the nth time a whole file gets its name."""
    replace, count = os.replace, iter(range(1, renaming + 1))

    def replace_or_die(source, target):
        if os.path.basename(target) == name and next(count) == renaming:
            kill_myself()
        replace(source, target)

    os.replace = replace_or_die


@pytest.mark.parametrize(
    ('name', 'renaming', 'resumes_at'),
    [('iter_6.pth', 1, 5), ('last_checkpoint', 6, 5), ('student.pth', 1, 10)],
)
@pytest.mark.parametrize('max_keep_ckpts', [1, -1])
def test_files_are_whole_or_missing(
    name, renaming, resumes_at, max_keep_ckpts, uninterrupted, tmp_path
):
    """Kill the run while it writes a file; with one checkpoint kept, one is left."""
    checkpoint = dict(max_keep_ckpts=max_keep_ckpts)
    assert run_is_killed(
        tmp_path,
        first=lambda: kill_while_renaming(name, renaming),
        checkpoint=checkpoint,
    )
    found = sorted(tmp_path.glob('*.pth'))
    assert found
    assert all(zipfile.is_zipfile(path) for path in found)
    assert len([*tmp_path.glob('.*')]) == 1  # what was being written
    resumed = train(tmp_path, seed=7, resume=True, checkpoint=checkpoint)
    assert sorted(resumed[0]) == list(range(resumes_at, 10))
    assert_equals_uninterrupted(resumed, uninterrupted, tmp_path)
    left = {path.name for path in tmp_path.glob('*.pth')}
    assert {'iter_10.pth', 'student.pth'} <= left


def test_best_checkpoint_stays_until_the_next_is_whole(uninterrupted, tmp_path):
    settings = dict(
        val_interval=5,
        checkpoint=dict(save_best='teacher/test/mean', rule='less'),
    )
    best = 'best_teacher_test_mean_iter_'
    train(tmp_path / 'straight', **settings)
    names = {path.name for path in (tmp_path / 'straight').glob('best*')}
    assert names == {f'{best}10.pth'}
    assert run_is_killed(
        tmp_path / 'killed',
        first=lambda: kill_while_renaming(f'{best}10.pth', 1),
        **settings,
    )
    names = {path.name for path in (tmp_path / 'killed').glob('best*')}
    assert names == {f'{best}5.pth'}


def test_file_that_was_written_again_is_not_deleted(tmp_path):
    """Save a better best checkpoint of the same iteration, under the same name."""
    path = tmp_path / 'best.pth'
    path.write_bytes(b'old')
    saver = checkpoint_hook.CheckpointHook(interval=1, out_dir=str(tmp_path))
    saver.file_backend, saver.last_ckpt = LocalBackend(), None
    saver.best_ckpt_path = str(path)

    def save(self, runner):
        self.file_backend.remove(str(path))
        assert path.read_bytes() == b'old'
        self.file_backend.put(b'new', str(path))

    _delete_last(save)(saver, None)
    assert path.read_bytes() == b'new'


def test_full_disk_is_one_message_and_leaves_the_older(tmp_path, monkeypatch):
    fsync = os.fsync

    def no_space(handle):
        if '.iter_4.pth' in os.readlink(f'/proc/self/fd/{handle}'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, 'fsync', no_space)
    message = f'cannot write a checkpoint in {tmp_path}: .* No space left .* --resume$'
    with pytest.raises(OSError, match=message):
        train(tmp_path, checkpoint=dict(max_keep_ckpts=1))
    (left,) = tmp_path.glob('*.pth')
    assert zipfile.is_zipfile(left)
    assert str(left) == (tmp_path / 'last_checkpoint').read_text()
    assert [*tmp_path.glob('.*')] == []


def test_resume_does_not_continue_an_older_run(uninterrupted, tmp_path):
    """Start anew in a used folder, and die before the first checkpoint."""
    assert run_is_killed(tmp_path, [Kill('before_train_iter', 3)])
    assert run_is_killed(tmp_path, [Kill('before_train_iter', 0)], seed=1)
    path = tmp_path / 'iter_3.pth'
    older = read_checkpoint(path)['meta']['experiment_name']
    later = json.loads((tmp_path / 'started_anew.json').read_text())['run']
    message = (
        f'{later} ended before its first checkpoint, and {path} is of {older}, which '
        f'ran before it in {tmp_path}: start without --resume, or continue the older '
        f'run with --resume {path}'
    )
    with pytest.raises(FileNotFoundError) as error:
        train(tmp_path, seed=7, resume=True)
    assert str(error.value) == message
    resumed = train(tmp_path, seed=7, resume=True, load_from=str(path))
    assert_equals_uninterrupted(resumed, uninterrupted, tmp_path)


def test_run_that_started_anew_is_resumed(tmp_path):
    assert run_is_killed(tmp_path, [Kill('before_train_iter', 5)])
    assert run_is_killed(tmp_path, [Kill('before_train_iter', 2)], seed=1)
    seen, _ = train(tmp_path, seed=7, resume=True)
    assert min(seen) == 2


@pytest.mark.parametrize('content', ['', '{"a": 1}', '[]', '{"run": 1, "older": 2}'])
def test_damaged_record_changes_nothing(content, tmp_path):
    (tmp_path / 'started_anew.json').write_text(content)
    with pytest.raises(FileNotFoundError, match='There is no checkpoint in'):
        train(tmp_path, resume=True)


@pytest.mark.parametrize(('interval', 'remedy'), [(3, 4), (1, 2)])
def test_checkpoint_between_two_steps_raises(interval, remedy, tmp_path):
    with pytest.raises(ValueError, match=f'set the interval to {remedy}$'):
        train(
            tmp_path,
            optim=dict(accumulative_counts=2),
            checkpoint=dict(interval=interval),
        )
    assert [*tmp_path.glob('*.pth')] == []
