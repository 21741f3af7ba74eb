"""Training killed by SIGKILL goes on, bit by bit, as if there had been no break."""

import multiprocessing
import os
import signal
import zipfile

import pytest
import torch
from mmengine.fileio.backends import LocalBackend
from mmengine.hooks import Hook, checkpoint_hook
from tiny_pair import Watch, evaluation, guided, hook, make, same, state

from mmcast.checkpoints import read_checkpoint

fork = multiprocessing.get_context('fork')


class Kill(Hook):
    """Of its own process, when a hook is called in an iteration."""

    def __init__(self, event, iteration):
        self.iteration = iteration
        setattr(self, event, self.at)

    def at(self, runner, **_):
        if runner.iter == self.iteration:
            kill_myself()


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def tear(name, writing):
    """Be killed half-way through writing a file for the nth time."""
    put, count = LocalBackend.put, iter(range(1, writing + 1))

    def put_or_die(self, content, path):
        if os.path.basename(path) == name and next(count) == writing:
            with open(path, 'wb') as file:
                file.write(content[: len(content) // 2])
            kill_myself()
        put(self, content, path)

    LocalBackend.put = put_or_die


def tear_last_checkpoint(writing):
    """Be killed while ``last_checkpoint`` is written for the nth time."""
    count = iter(range(1, writing + 1))

    def open_or_die(*arguments):
        file = open(*arguments)  # noqa: SIM115
        if next(count) == writing:
            kill_myself()
        return file

    checkpoint_hook.open = open_or_die


def train(work_dir, hooks=(), seed=0, **arguments):
    """Train with all that a run of Guided Distillation has."""
    watch, model = Watch(), guided(seed)
    hooks = [
        hook(),
        dict(type='ExportHook', part='teacher'),
        dict(type='PreflightHook'),
        watch,
        *hooks,
    ]
    validation = evaluation('val', 'TeacherStudentValLoop')
    make(work_dir, model, hooks, **validation, **arguments).train()
    return watch.seen, state(model)


def train_in_child(first, arguments, options):
    # A forked child may not use the parent's OpenMP threads.
    torch.set_num_threads(1)
    first()
    train(*arguments, **options)


def killed(*arguments, first=lambda: None, **options):
    """Whether training in another process, after ``first()``, ends by its own kill."""
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
def straight(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('straight')
    seen, end = train(work_dir)
    assert same(seen[4], seen[0])
    assert not same(seen[5], seen[4])
    student, teacher = (
        {k.removeprefix(f'{of}.'): v for k, v in end.items() if k.startswith(of)}
        for of in ('student', 'teacher')
    )
    left = exported(work_dir)
    assert all(torch.equal(value, teacher[name]) for name, value in left.items())
    assert not same(student, teacher)
    return seen, end, left


def assert_as_straight(resumed, straight, work_dir):
    seen, end = resumed
    for t, teacher in seen.items():
        teacher.pop('constant')  # in no checkpoint, as it is in no state dict
        assert all(torch.equal(v, straight[0][t][k]) for k, v in teacher.items()), t
    for name, value in end.items():
        if not name.endswith('constant'):
            assert torch.equal(value, straight[1][name]), name
    assert same(exported(work_dir), straight[2])


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
    event, iteration, resumes_at, straight, tmp_path
):
    """The checkpoint of iteration 5 has the loaded teacher; the next batch switches."""
    assert killed(tmp_path, [Kill(event, iteration)])
    assert not (tmp_path / 'student.pth').exists()
    # Other weights until the checkpoint is read.
    resumed = train(tmp_path, seed=7, resume=True)
    assert sorted(resumed[0]) == list(range(resumes_at, 10))
    assert_as_straight(resumed, straight, tmp_path)


def test_a_checkpoint_torn_by_a_kill_is_not_the_one_to_go_on_from(straight, tmp_path):
    assert killed(tmp_path, first=lambda: tear('iter_6.pth', writing=1))
    assert not zipfile.is_zipfile(tmp_path / 'iter_6.pth')
    resumed = train(tmp_path, seed=7, resume=True)
    assert sorted(resumed[0]) == list(range(5, 10))
    assert_as_straight(resumed, straight, tmp_path)


def test_a_torn_checkpoint_named_as_the_last_is_told(straight, tmp_path):
    """It is written anew when it has been found to be the best."""
    assert killed(
        tmp_path,
        first=lambda: tear('iter_5.pth', writing=2),
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
    assert_as_straight(resumed, straight, tmp_path)


def test_a_kill_while_the_last_one_is_named_is_told(straight, tmp_path):
    assert killed(tmp_path, first=lambda: tear_last_checkpoint(writing=6))
    last, before = tmp_path / 'last_checkpoint', tmp_path / 'iter_6.pth'
    assert last.read_text() == ''
    message = f'^cannot resume: {last} .* --resume {before}$'
    with pytest.raises(ValueError, match=message):
        train(tmp_path, seed=7, resume=True)
    resumed = train(tmp_path, seed=7, resume=True, load_from=str(before))
    assert sorted(resumed[0]) == list(range(6, 10))
    assert_as_straight(resumed, straight, tmp_path)


def test_without_any_whole_checkpoint_that_is_told(tmp_path):
    """With room for one, the last is removed before the next is written."""
    assert killed(
        tmp_path,
        first=lambda: tear('iter_6.pth', writing=1),
        checkpoint=dict(max_keep_ckpts=1),
    )
    named = (tmp_path / 'last_checkpoint').read_text()
    assert named == str(tmp_path / 'iter_5.pth')
    message = f'^cannot resume: {named} .*: start without --resume$'
    with pytest.raises(ValueError, match=message):
        train(tmp_path, seed=7, resume=True)
