"""Test which runs of the results page are made, and what is made of them."""

import copy
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import photograph_rows
import pytest
import results as module
import results_bench
import results_rows
import results_tables
from runs import mim

from mmcast.files import lock

SEEDS = (0, 1)


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['results.py', '--out', str(tmp_path)])
    return module


def fill(bench, values):
    """Return results with the mask AP of some rows, by seed."""
    results = bench.Results(bench.parse_args())
    for name, of_seeds in values.items():
        for seed, ap in zip(SEEDS, of_seeds, strict=False):
            results.add(name, seed, dict(mask_ap=ap, mask_ap50=2 * ap, params_m=1.0))
    return results


@pytest.mark.parametrize('of', module.BENCHES.values(), ids=list(module.BENCHES))
def test_every_row_can_be_made(of):
    before = []
    for name, row in of.rows.items():
        assert {*row.reads.values()} <= {*before}, name
        assert row.against is None or row.against in of.rows, name
        before.append(name)
        if row.config:
            cfg = of.config(row.config)
            for option in (*row.options, *row.reads):
                node = cfg
                for key in option.split('.')[:-1][:2]:
                    node = node[key]
    for _, names in of.tables.values():
        assert set(names) <= set(of.rows)
    for name, over, *_ in of.regime.values():
        assert name in of.rows
        assert over is None or over in of.rows


def test_photographs_with_more_labels_differ_in_lists_alone():
    rows = photograph_rows.ROWS
    for name in photograph_rows.BY_LABELS:
        few, more = rows[name], rows[f'{name}_180']
        assert (few.config, few.share, few.views) == (
            more.config,
            more.share,
            more.views,
        )
        lists = results_bench.LABELED, results_bench.UNLABELED
        for key, value in few.options.items():
            expected = value.replace('60_', '180_') if key in lists else value
            assert more.options[key] == expected
        assert [f'{read}_180' for read in few.reads.values()] == [*more.reads.values()]


def test_rows_with_more_labels_differ_in_lists_and_batches_alone(bench):
    rows = results_rows.ROWS
    few, more = rows['distilled_student'], rows['distilled_student_200']
    lists = {
        results_bench.LABELED: 'splits/200img/labeled.txt',
        results_bench.UNLABELED: 'splits/200img/unlabeled.txt',
    }
    batches = {
        **results_rows.EQUAL_PARTS,
        f'{results_rows.CONTRAST}loss.loss_weight': 0.1,
    }
    assert more.options == {**few.options, **lists, **batches}
    without = rows['pseudo_labels_student_200'].options
    assert without == {**results_rows.NO_CONTRAST, **lists, **results_rows.EQUAL_PARTS}
    assert more.reads == {bench.LABELLER: 'adapted_teacher_200'}
    assert more.against == 'adapted_teacher_200'
    assert (more.config, more.file, more.share) == (few.config, few.file, few.share)
    guided = rows['guided_student_200']
    assert list(guided.options) == [results_bench.LABELED]
    assert guided.reads == {'model.teacher.checkpoint': 'supervised_student_200'}
    teacher = rows['adapted_teacher_200']
    assert teacher.against == 'zero_shot_teacher'
    results = bench.Results(bench.parse_args())
    teachers = [f'adapted_teacher_{count}' for count in results_rows.MORE_LABELS]
    assert [*map(results.iterations, teachers)] == [300, 300, 600, 900]
    for name in ('supervised_student_200', 'supervised_student_twice_200'):
        assert rows[name].options['train_dataloader.batch_size'] == 8


def test_only_missing_runs_and_their_inputs_are_made(bench):
    results = bench.Results(bench.parse_args())
    chain = ['adapted_teacher', 'distilled_student', 'refined_student']
    assert results.todo(['refined_student'], 0) == chain
    made = dict(mask_ap=1.0, mask_ap50=2.0, params_m=1.0)
    for name in chain:
        results.add(name, 0, made)
    assert results.todo(chain, 0) == []  # files are gone, but nothing reads them
    assert results.todo(['pseudo_labels_student'], 0) == [
        'adapted_teacher',  # again, for its file
        'pseudo_labels_student',
    ]
    for name in chain:
        results.left(name, 0).parent.mkdir(parents=True)
        results.left(name, 0).touch()
    assert results.todo(['pseudo_labels_student'], 0) == ['pseudo_labels_student']
    assert results.todo(chain, 1) == chain
    assert bench.Results(bench.parse_args()).todo(chain, 0) == []


def test_other_inputs_make_a_run_invalid(bench, monkeypatch):
    results = fill(bench, {'adapted_teacher': [1, 2], 'distilled_student': [3, 4]})
    keys = {results.key('distilled_student', seed) for seed in SEEDS}
    monkeypatch.setitem(results_rows.IMAGES, 'labeled', 11)
    keys.add(results.key('distilled_student', 0))
    assert not results.finished('distilled_student', 0)
    monkeypatch.undo()
    teacher = results_rows.ROWS['adapted_teacher']
    changed = replace(teacher, options={'optim_wrapper.optimizer.lr': 1.0})
    monkeypatch.setitem(results_rows.ROWS, 'adapted_teacher', changed)
    keys.add(results.key('distilled_student', 0))  # its teacher is another one
    monkeypatch.undo()
    row = results_rows.ROWS['distilled_student']
    monkeypatch.setitem(
        results_rows.ROWS,
        'distilled_student',
        replace(row, reads={'load_from': 'adapted_teacher'}),
    )
    keys.add(results.key('distilled_student', 0))  # the same file, read elsewhere
    assert len(keys) == 5


def test_a_run_does_not_depend_on_what_its_row_switches_off(bench, monkeypatch):
    results = bench.Results(bench.parse_args())
    rows = ('pseudo_labels_student', 'distilled_student')
    before = [results.key(name, 0) for name in rows]
    config_of = results_bench.Bench.config

    def finer(self, stage):
        config = copy.deepcopy(config_of(self, stage))
        if stage == 'distill':
            config.model.student.pixel_contrast.in_index = 0
        return config

    monkeypatch.setattr(results_bench.Bench, 'config', finer)
    after = [results.key(name, 0) for name in rows]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_scale_shortens_students_alone(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, 'argv', ['results.py', '--scale', '0.1', '--out', str(tmp_path)]
    )
    results = bench.Results(bench.parse_args())
    assert results.iterations('adapted_teacher') == 30
    assert results.iterations('distilled_student') == 200


def test_take_over_and_memory_keep_their_share_of_a_run(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, 'argv', ['results.py', '--scale', '0.1', '--out', str(tmp_path)]
    )
    results, seen = bench.Results(bench.parse_args()), []
    monkeypatch.setattr(bench, 'mim', lambda *words, **_: seen.append(words))
    update = results.bench.config('guided_distillation/distill').default_hooks
    published = update.teacher_update
    for name, burn_in, factor in (
        ('guided_student', int(published.burn_in_iters * 0.1), 0.1),
        ('guided_late_student', 180, 0.1),
        ('guided_frozen_student', None, 0.1),
        ('guided_long_student', int(published.burn_in_iters * 0.4), 0.4),
    ):
        bench.train(results, name, 0)
        given = dict(word.split('=', 1) for word in seen[-1] if '=' in str(word))
        key = 'default_hooks.teacher_update.'
        assert given[f'{key}burn_in_iters'] == str(burn_in), name
        momentum = max(0, 1 - (1 - published.momentum) / factor)
        assert float(given[f'{key}momentum']) == pytest.approx(momentum), name


def test_a_run_depends_on_the_weights_that_it_starts_from(bench, monkeypatch, tmp_path):
    results = fill(bench, {'adapted_teacher': [1], 'distilled_student': [3]})
    for judge, kept in (('supervised', ['adapted_teacher']), ('adapt', [])):
        file = tmp_path / f'{judge}.pth'
        file.write_bytes(b'others')
        monkeypatch.setitem(results.bench.starts, judge, (file,))
        finished = [name for name in results.runs if results.finished(name, 0)]
        assert finished == kept
        monkeypatch.undo()


def test_all_weights_that_a_row_starts_from_are_known():
    bench = results_tables.BENCH
    for name, row in bench.rows.items():
        config = copy.deepcopy(bench.config(row.config or row.judge))
        config.merge_from_dict(row.options)
        read = set(re.findall(r"[^/']+/[^/']+\.pth", repr(config.model.to_dict())))
        found = {file for file in read if file.startswith('weights/')}
        known = {f'weights/{file.name}' for file in bench.starts[row.judge]}
        assert found == known, name


def trained(bench, monkeypatch, *options):
    """Train a student for the measured results, and end before it is evaluated."""

    def mim(*words, **kwargs):
        Path(words[words.index('--work-dir') + 1], 'student.pth').touch()

    monkeypatch.setattr(bench, 'mim', mim)
    monkeypatch.setattr(sys, 'argv', [*sys.argv[:3], *options])
    results = bench.Results(bench.parse_args())
    bench.train(results, 'supervised_student', 0)
    return results


def test_a_model_of_other_settings_is_not_reused(bench, monkeypatch):
    results = trained(bench, monkeypatch)
    results.add('supervised_student', 0, dict(mask_ap=1, mask_ap50=2, params_m=1))
    both = ['supervised_student', 'guided_student']
    assert results.todo(both[1:], 0) == both[1:]
    trained(bench, monkeypatch, '--scale', '0.1')  # in the same folder, then killed
    assert results.todo(both[1:], 0) == both
    assert results.finished(both[0], 0)  # its number is still valid
    monkeypatch.setattr(sys, 'argv', [*sys.argv[:3], '--rules', 'teacher'])
    assert not bench.Results(bench.parse_args()).has_model(both[0], 0)
    trained(bench, monkeypatch)
    monkeypatch.setattr(sys, 'argv', [*sys.argv[:3], '--rules', 'teacher'])
    assert bench.Results(bench.parse_args()).has_model(both[0], 0)


def test_two_calls_do_not_share_a_folder(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, 'run_all', lambda *args: None)
    with (tmp_path / 'lock').open('wb') as file:
        assert lock(file)
        with pytest.raises(SystemExit, match=r'another call.* --out'):
            bench.main()
    bench.main()


def test_a_training_that_outlives_a_killed_call_keeps_the_folder(
    bench, monkeypatch, tmp_path
):
    script = tmp_path / 'bin/mim'
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nwhile [ ! -e {tmp_path}/stop ]; do sleep 0.1; done')
    script.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(script.with_name('python')))
    training = Thread(target=mim, args=('train',), kwargs=dict(log=tmp_path / 'log'))

    def run(*args):
        training.start()
        while not (tmp_path / 'log').exists():  # mim runs
            time.sleep(0.01)

    monkeypatch.setattr(bench, 'run_all', run)
    bench.main()
    try:
        with pytest.raises(SystemExit, match='training of a killed one'):
            bench.main()
    finally:
        (tmp_path / 'stop').touch()
    training.join()
    monkeypatch.setattr(bench, 'run_all', lambda *args: None)
    bench.main()


def test_switches_of_the_shell_change_no_run(bench, monkeypatch, tmp_path):
    for name, value in (('SPLIT', '180_2'), ('STUDENT', 'r50'), ('TEACHER', 'sam3')):
        monkeypatch.setenv(name, value)
    seen = {}

    def run(*args):
        seen.update(module.os.environ)

    monkeypatch.setattr(bench, 'run_all', run)
    bench.main()
    assert not seen.keys() & {'SPLIT', 'STUDENT', 'TEACHER'}


def test_the_teachers_rules_need_two_scores(bench, monkeypatch, capsys):
    argv = ['results.py', '--data', 'ccp', '--rules', 'teacher']
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit):
        bench.parse_args()
    assert 'one score' in capsys.readouterr().err


def test_other_images_are_made_again(monkeypatch, tmp_path):
    made = []

    def make(data, **settings):
        made.append(settings)
        (data / 'splits').mkdir(parents=True)  # fails if the old ones are there

    monkeypatch.setattr(results_tables, 'make_synthscapes', make)
    results_tables.make_data(tmp_path, 0)
    results_tables.make_data(tmp_path, 0)
    assert len(made) == 1
    monkeypatch.setattr(results_tables, 'GENERATOR_VERSION', 99)
    results_tables.make_data(tmp_path, 0)
    assert len(made) == 2
    monkeypatch.setitem(results_rows.IMAGES, 'labeled', 11)
    results_tables.make_data(tmp_path, 0)
    assert [each['labeled'] for each in made] == [10, 10, 11]


def test_other_photographs_are_refused(monkeypatch, tmp_path):
    data, root = tmp_path / 'photographs', tmp_path / 'seed0'
    for split in ('train', 'val', 'test'):
        file = data / 'annotations' / f'{split}.json'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(split)
    monkeypatch.setattr(photograph_rows, 'DATA', Path('data/ccp'))
    (tmp_path / 'data').mkdir()
    monkeypatch.chdir(tmp_path)
    link = tmp_path / 'data/ccp'
    link.symlink_to(data)
    photograph_rows.make_data(root, 0)
    data = data.rename(tmp_path / 'moved')  # the link of seed 0 leads nowhere now
    link.unlink()
    link.symlink_to(data)
    photograph_rows.make_data(root, 0)
    assert (root / 'data/ccp/annotations/train.json').read_text() == 'train'
    (data / 'annotations/test.json').write_text('others')
    with pytest.raises(RuntimeError, match='--out'):
        photograph_rows.make_data(root, 0)
    photograph_rows.make_data(tmp_path / 'seed1', 1)


def test_gains_are_paired_and_the_regime_is_judged(bench, tmp_path):
    results = fill(
        bench,
        {
            'zero_shot_teacher': [14.0, 17.0],
            'adapted_teacher': [20.0, 21.0],
            'oracle_student': [30.0],
            'supervised_student': [8.0, 6.0],
            'supervised_student_twice': [8.7, 6.5],
            'adapted_teacher_200': [26.0],
        },
    )
    report = json.loads((tmp_path / 'results.json').read_text())
    rows = {row['name']: row for row in report['rows']}
    assert rows['adapted_teacher']['gain'] == [6.0, 4.0]
    (command,) = report['commands']
    assert command.startswith(
        'python tools/benchmarks/results.py --data synthscapes --seeds 0 1 2 '
    )
    assert str(tmp_path) not in command
    assert rows['adapted_teacher']['mask_ap50'] == [40.0, 42.0]
    assert rows['oracle_student']['gain'] == [10.0]
    assert rows['supervised_student_twice']['iterations'] == 4000
    regime = {name: each['holds'] for name, each in report['regime'].items()}
    assert regime == {
        'oracle student over adapted teacher': True,
        'oracle student over teacher of 200 labels': False,
        'supervised student, twice as long': False,  # 0.6 on average
        'adapted teacher over zero-shot': True,  # 5.0 on average
        'zero-shot teacher': True,  # 15.5 on average
    }
    text = (tmp_path / 'results.md').read_text()
    expected = '| teacher, adapted on labels | 20.5 (20.0 to 21.0) | 41.0 | '
    assert expected + '+5.0 (4.0 to 6.0) | teacher, zero-shot | 2 |' in text
    assert (
        '| supervised student, twice as long | below 0.5 | 0.6 (0.5 to 0.7) | no |'
        in text
    )
    assert text.count('| teacher, zero-shot | 15.5') == 1  # one table has all rows
    assert results.row('oracle_student')['seeds'] == [0]


def test_each_table_says_how_long_it_took(bench, tmp_path):
    """As far as it is known: runs of before have no time."""
    results = fill(bench, {'adapted_teacher': [20.0, 21.0]})
    assert 'hours' not in (tmp_path / 'results.md').read_text()
    results.add(
        *('distilled_student', 0),
        dict(mask_ap=22.0, mask_ap50=44.0, params_m=1.0, minutes=90.0),
    )
    assert results.row('adapted_teacher')['minutes'] == [None, None]
    text = (tmp_path / 'results.md').read_text()
    assert '1 of 3 runs took 1.5 hours, with labelling.' in text


def test_results_are_trained_and_continue(bench, monkeypatch, tmp_path, warm):
    """Through the stock scripts, with a few images and iterations."""
    images = dict(train=36, val=6, test=6, labeled=30)
    monkeypatch.setattr(sys, 'executable', str(warm.bin / 'python'))
    monkeypatch.setattr(results_tables, 'IMAGES', images)
    monkeypatch.setattr(results_tables, 'MORE_LABELS', (31, 32))
    short = replace(results_rows.ROWS['adapted_teacher'], share=0.1)
    monkeypatch.setitem(results_rows.ROWS, 'adapted_teacher', short)
    argv = ['results.py', '--seeds', '0', '--scale', '0.001', '--jobs', '2']
    argv += ['--rows', 'distilled_student', '--split', 'test', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', argv)
    bench.main()
    found = json.loads((tmp_path / 'results.json').read_text())
    assert set(found['runs']) == {'adapted_teacher', 'distilled_student'}
    for row in found['rows']:
        assert 0 <= row['mask_ap'][0] <= row['mask_ap50'][0] <= 100
        assert 0 < row['minutes'][0] < 10
    work_dirs = tmp_path / 'seed0/work_dirs'
    log = (work_dirs / 'distilled_student/train.log').read_text()
    assert str(work_dirs / 'adapted_teacher/teacher.pth') in log
    assert '(0 labelled now)' in log  # the labels were there
    assert 'leftImg8bit/test/' in (work_dirs / 'distilled_student/test.log').read_text()

    def never(*args, **kwargs):
        raise AssertionError(args)

    monkeypatch.setattr(bench, 'mim', never)
    bench.main()  # nothing is left to do
