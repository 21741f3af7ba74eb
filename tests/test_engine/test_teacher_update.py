"""Test the teacher's updates against plain Python and in a real Runner."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from gloo_ranks import two_ranks
from mmdet.models import DetDataPreprocessor
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from tiny_pair import (
    Pair,
    Watch,
    evaluation,
    guided,
    hook,
    make_runner,
    network,
    same_state,
    state,
)
from torch import nn

from mmcast.checkpoints import read_checkpoint
from mmcast.engine.hooks import TeacherUpdateHook
from mmcast.engine.hooks.teacher_update_hook import check_same_architecture


def call_hook(hook, model, iteration):
    """Call the hook as a runner does, whose state is the model's here."""
    hub = vars(model).setdefault('hub', MessageHub('of a model'))
    runner = SimpleNamespace(model=model, iter=iteration, message_hub=hub)
    hook.before_train_iter(runner, iteration)


def change_student(student, generator):
    """Change the student as a step of the optimiser and batch norm would."""
    with torch.no_grad():
        for value in tensors_of(student):
            if value.is_floating_point():
                value += torch.randn(
                    value.shape, generator=generator, dtype=value.dtype
                )
            else:
                value += 3


def tensors_of(module):
    return [*module.parameters(), *module.buffers()]


def test_fifty_updates_equal_plain_python():
    model = Pair().double()
    hook = TeacherUpdateHook(burn_in_iters=5, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    loaded = state(model.teacher)
    expected = {k: v.flatten().tolist() for k, v in loaded.items()}
    for t in range(50):
        call_hook(hook, model, t)
        student = {k: v.flatten().tolist() for k, v in state(model.student).items()}
        for name, values in expected.items():
            for i, own in enumerate(student[name]):
                if t == 5 or (t > 5 and name.endswith('num_batches_tracked')):
                    values[i] = own
                elif t > 5:
                    values[i] = 0.9 * values[i] + 0.1 * own
        found = state(model.teacher)
        assert {'1.running_mean', '1.num_batches_tracked', 'constant'} < found.keys()
        for name, values in expected.items():
            flat = found[name].flatten().tolist()
            assert flat == pytest.approx(values, rel=1e-12, abs=1e-12), (t, name)
        if t < 5:
            assert same_state(found, loaded)
        change_student(model.student, generator)


@pytest.mark.parametrize('burn_in_iters', [0, 1, 7, None])
def test_switch_copies_the_student_exactly(burn_in_iters):
    model = Pair()
    hook = TeacherUpdateHook(burn_in_iters)
    generator = torch.Generator().manual_seed(1)
    loaded = state(model.teacher)
    for t in range(10):
        call_hook(hook, model, t)
        teacher, student = state(model.teacher), state(model.student)
        frozen = burn_in_iters is None or t < burn_in_iters
        assert same_state(teacher, loaded) == frozen
        assert same_state(teacher, student) == (t == burn_in_iters)
        change_student(model.student, generator)


def test_switch_replaces_infinite_values():
    """Check that the copy is not an average with weight 0, since 0 * inf is NaN."""
    model = Pair()
    with torch.no_grad():
        model.teacher[0].weight.fill_(torch.inf)
    call_hook(TeacherUpdateHook(3), model, 3)
    assert same_state(state(model.teacher), state(model.student))


@pytest.mark.parametrize('guided', [True, False])
def test_unguided_teacher_labels_from_the_switch_on(guided):
    model, labels = Pair(), []
    for t in range(6):
        call_hook(TeacherUpdateHook(3, guided=guided), model, t)
        labels.append(model.labeling_enabled)
    assert labels == [guided] * 3 + [True] * 3


def test_updates_build_no_graph():
    model = Pair()
    for t in range(3):
        call_hook(TeacherUpdateHook(0), model, t)
    assert all(
        p.grad_fn is None and not p.requires_grad for p in model.teacher.parameters()
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(burn_in_iters=-1), 'burn_in_iters=-1 must be 0 or more, or None'),
        (dict(burn_in_iters=0, momentum=1.5), 'momentum=1.5 must be from 0 to 1'),
        (dict(burn_in_iters=None, guided=False), 'no teacher would ever label'),
        (
            dict(burn_in_iters=None, burn_in_metric='coco/segm_mAP'),
            r"burn_in_metric='coco/segm_mAP' compares .* burn_in_iters as the earliest",
        ),
        (
            dict(burn_in_iters=5, burn_in_metric='AP', guided=False),
            "burn_in_metric='AP' compares .* it needs guided=True",
        ),
    ],
)
def test_arguments_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        TeacherUpdateHook(**arguments)


# -- through a Runner ----------------------------------------------------------------


def test_gradient_accumulation_does_not_slow_the_teacher(tmp_path):
    """Check that it moves before each batch; the student moves after every third."""
    watch, model = Watch(), Pair()
    make_runner(
        tmp_path / 'run',
        model,
        [hook(burn_in_iters=0), watch],
        optim=dict(accumulative_counts=3),
    ).train()
    weights = [watch.seen[t]['0.weight'] for t in range(10)]
    moves = [not torch.equal(a, b) for a, b in itertools.pairwise(weights)]
    assert moves == [False] * 2 + [True] * 7
    # The student is constant for three batches: each update halves the distance.
    torch.testing.assert_close(weights[4] - weights[3], (weights[5] - weights[4]) * 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_mixed_precision_keeps_the_teacher_in_float32(tmp_path):
    watch, model = Watch(), Pair()
    make_runner(
        tmp_path / 'run',
        model,
        [hook(burn_in_iters=0), watch],
        optim=dict(type='AmpOptimWrapper'),
    ).train()
    assert model.teacher[0].weight.dtype == torch.float32
    assert not same_state(watch.seen[8], watch.seen[9])
    assert all(value.isfinite().all() for value in watch.seen[9].values())


@pytest.mark.parametrize(
    ('model', 'changes', 'message'),
    [
        (
            lambda: Pair(teacher_width=5),
            {},
            r"the student's 7 of 10 weights differ \(0\.weight is \(4, 3\), not "
            r'\(5, 3\).*or TeacherUpdateHook burn_in_iters=None',
        ),
        (Pair, {}, r'burn_in_iters=5 with random weights: give model\.teacher\.check'),
        (Pair, dict(burn_in_iters=None), 'burn_in_iters=None with random weights'),
        (Pair, dict(burn_in_iters=50), 'burn_in_iters=50 with random weights'),
        (guided, dict(burn_in_iters=10, guided=False), 'but the run ends at 10'),
    ],
)
def test_impossible_switch_raises_before_training(model, changes, message, tmp_path):
    watch = Watch()
    with pytest.raises(ValueError, match=message):
        make_runner(tmp_path / 'run', model(), [hook(**changes), watch]).train()
    assert watch.seen == {}


def test_unguided_run_needs_no_loaded_teacher(tmp_path):
    watch = Watch()
    make_runner(tmp_path / 'run', Pair(), [hook(guided=False), watch]).train()
    assert len(watch.seen) == 10


def test_constant_teacher_may_have_another_architecture(tmp_path, capfd):
    for changes in (dict(burn_in_iters=None), dict(burn_in_iters=2)):
        watch, model = Watch(), guided(teacher_width=5)
        loaded = state(model.teacher)
        make_runner(
            tmp_path / 'run', model, [hook(**changes), watch], max_iters=2
        ).train()
        assert same_state(state(model.teacher), loaded)
        late = 'burn_in_iters=2 on, and the run ends at 2'
        assert (late in ''.join(capfd.readouterr())) == (changes['burn_in_iters'] == 2)


def test_missing_teacher_raises(tmp_path):
    model = Pair()
    model.teacher = None
    with pytest.raises(ValueError, match='Pair has no teacher to update'):
        make_runner(tmp_path / 'run', model, [hook()]).train()


def test_student_may_have_training_only_modules():
    student, teacher = network(), network()
    student.pixel_contrast = nn.Linear(2, 2)
    check_same_architecture(student, teacher)
    student.decoder = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r'decoder\.weight is unexpected'):
        check_same_architecture(student, teacher)


def test_a_copy_of_the_student_sees_the_colours_in_its_order():
    student, teacher = network(), network()
    for each, bgr_to_rgb in ((student, True), (teacher, False)):
        each.data_preprocessor = DetDataPreprocessor(bgr_to_rgb=bgr_to_rgb)
    with pytest.raises(ValueError, match='differ in the order of colours'):
        check_same_architecture(student, teacher)
    teacher.data_preprocessor = DetDataPreprocessor(bgr_to_rgb=True)
    check_same_architecture(student, teacher)


# -- a switch that waits for the student -----------------------------------------------


class Validations(Hook):
    """Record a metric of student and teacher, and the iteration that comes next."""

    def __init__(self):
        self.seen = []

    def after_val_epoch(self, runner, metrics):
        values = (metrics[f'{part}/test/mean'] for part in ('student', 'teacher'))
        self.seen.append((runner.iter, *values))


def wait(tmp_path, seed=0, metric='test/mean', interval=2, **changes):
    """Train a guided pair; return its teachers, validations and loaded teacher."""
    watch, validations, model = Watch(), Validations(), guided(seed)
    loaded = state(model.teacher)
    hooks = [hook(burn_in_metric=metric, **changes), watch, validations]
    validation = evaluation('val', 'TeacherStudentValLoop')
    make_runner(tmp_path, model, hooks, val_interval=interval, **validation).train()
    return watch.seen, validations.seen, loaded


@pytest.mark.parametrize('earliest', [0, 5])
@pytest.mark.parametrize('seed', range(3, 8))
def test_switch_waits_until_the_student_is_better(seed, earliest, tmp_path):
    teachers, found, loaded = wait(tmp_path, seed, burn_in_iters=earliest)
    assert [at for at, *_ in found] == [2, 4, 6, 8, 10]
    better = [at for at, student, teacher in found if student > teacher]
    switch = next((at for at in better if at >= earliest), 10)
    for at, teacher in teachers.items():
        assert same_state(teacher, loaded) == (at < switch), (at, switch)


def test_seeds_of_the_test_above_differ(tmp_path):
    switches = set()
    for seed in range(3, 8):
        teachers, _, loaded = wait(tmp_path / str(seed), seed, burn_in_iters=0)
        moved = (at for at, each in teachers.items() if not same_state(each, loaded))
        switches.add(next(moved, None))
    assert switches == {4, 6, 8, None}


def test_a_student_that_is_never_better_is_told(tmp_path, capfd):
    wait(tmp_path, seed=6)
    told = ''.join(capfd.readouterr())
    assert 'The teacher has stayed as it was loaded: in no validation was the' in told


def test_unknown_metric_is_named(tmp_path):
    """Its prefix is known before the run, the rest with the first validation."""
    message = 'is none of the metrics of val_evaluator: their names begin with test/$'
    with pytest.raises(ValueError, match=message):
        wait(tmp_path, metric='segm_mAP')
    assert not (tmp_path / 'iter_1.pth').exists()
    message = "metric='test/meen' is not among the validation's metrics: test/mean$"
    with pytest.raises(ValueError, match=message):
        wait(tmp_path, metric='test/meen')


@pytest.mark.parametrize(
    ('changes', 'settings'),
    [
        ({}, dict(val_interval=10)),
        (dict(burn_in_iters=9), dict(val_interval=4)),
        ({}, dict(schedule=dict(val_begin=9), val_interval=4)),
    ],
)
def test_switch_that_no_validation_can_decide_raises_before_training(
    changes, settings, tmp_path
):
    validation = evaluation('val', 'TeacherStudentValLoop')
    runner = make_runner(
        tmp_path,
        guided(),
        [hook(burn_in_metric='test/mean', **changes)],
        **validation,
        **settings,
    )
    with pytest.raises(ValueError, match='but none is between burn_in_iters='):
        runner.train()


def test_switch_that_nothing_compares_raises_before_training(tmp_path):
    hooks = [hook(burn_in_metric='test/mean')]
    for arguments in ({}, evaluation('val', 'ValLoop')):
        with pytest.raises(ValueError, match=r"set val_cfg\.type='TeacherStudentVal"):
            make_runner(tmp_path / 'run', guided(), hooks, **arguments).train()


def test_a_run_of_epochs_validates_no_more_often_when_resumed(tmp_path):
    """An epoch has three iterations; the run goes on in the middle of the third."""
    seen = []
    for resume in (dict(), dict(resume=True, load_from=str(tmp_path / 'iter_8.pth'))):
        validations = Validations()
        hooks = [hook(burn_in_iters=0, burn_in_metric='test/mean'), validations]
        validation = evaluation('val', 'TeacherStudentValLoop')
        make_runner(
            tmp_path, guided(6), hooks, epochs=4, val_interval=2, **validation, **resume
        ).train()
        seen.append([at for at, *_ in validations.seen])
    assert seen[0] == [6, 12]
    assert len(seen[1]) == 1  # the last one
    assert seen[1][0] > 8


def test_validation_alone_decides_nothing(tmp_path):
    for loop in ('ValLoop', 'TeacherStudentValLoop'):
        hooks = [hook(burn_in_metric='test/mean', burn_in_iters=0)]
        runner = make_runner(tmp_path, guided(), hooks, **evaluation('val', loop))
        runner.val()
        assert 'teacher_switch' not in runner.message_hub.runtime_info


def test_model_that_finds_nothing_is_worse_than_any(tmp_path):
    """CocoMetric returns no metrics for it."""
    update = TeacherUpdateHook(0, burn_in_metric='coco/segm_mAP')
    runner = make_runner(tmp_path, guided(), [])
    runner.build_train_loop(runner._train_loop)
    runner.train_loop._iter = 3
    info = runner.message_hub.runtime_info
    for metrics in (None, {}, {'teacher/coco/segm_mAP': 0.0}):
        update.after_val_epoch(runner, metrics)
        assert 'teacher_switch' not in info
    update.after_val_epoch(runner, {'student/coco/segm_mAP': 0.0})
    assert info['teacher_switch'] == 3


# -- on two ranks --------------------------------------------------------------------


class Plain(nn.Module):
    """A pair without batch norm, whose statistics would differ between ranks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.student = nn.Linear(3, 1)
        self.teacher = nn.Linear(3, 1).requires_grad_(False)

    def forward(self, inputs):
        return (self.student(inputs) - self.teacher(inputs) - 1).square().mean()


def train_without_runner(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    teacher_update = TeacherUpdateHook(burn_in_iters=3, momentum=0.7)
    for t, inputs in enumerate(batches):
        call_hook(teacher_update, model, t)
        optimizer.zero_grad()
        model(inputs).backward()
        optimizer.step()


def test_two_ranks_get_the_same_teacher_as_one_process(tmp_path):
    batches = torch.randn(8, 6, 3)
    alone = Plain()
    loaded = state(alone.teacher)
    train_without_runner(alone, batches)
    expected = state(alone)
    assert not torch.equal(expected['teacher.weight'], loaded['weight'])

    def work(rank):
        model = Plain()
        wrapped = MMDistributedDataParallel(module=model, broadcast_buffers=False)
        train_without_runner(wrapped, batches[:, 3 * rank : 3 * rank + 3])
        for name, value in state(model).items():
            torch.testing.assert_close(value, expected[name])

    assert two_ranks(work, tmp_path) == [0, 0]


# -- which of the two is exported ----------------------------------------------------


@pytest.mark.parametrize('part', ['student', 'teacher', None])
def test_both_are_evaluated_and_the_chosen_one_is_exported(part, tmp_path):
    model, seen = guided(), {}

    class Metrics(Hook):
        def after_val_epoch(self, runner, metrics=None):
            seen.update(metrics)

    make_runner(
        tmp_path / 'run',
        model,
        [hook(burn_in_iters=None), Metrics(), dict(type='ExportHook', part=part)],
        max_iters=1,
        **evaluation('val', 'TeacherStudentValLoop'),
    ).train()
    assert seen.keys() == {'student/test/mean', 'teacher/test/mean'}
    left = read_checkpoint(tmp_path / 'run/student.pth')['state_dict']
    expected = getattr(model, part or 'student').state_dict()
    assert left.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in left.items())
    # After the validation, the student is selected again.
    assert model.semi_test_cfg == dict(predict_on='student')
