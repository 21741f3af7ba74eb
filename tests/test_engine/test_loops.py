"""Compare evaluating teacher and student together with evaluating each alone."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny_pair import Pair, evaluation, hook, make_runner

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/mmcast'


def evaluate(work_dir, loop, model, **arguments):
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        **evaluation('test', loop),
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{id(model)}',
        **arguments,
    )
    return runner.test(), runner


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({'state_dict': Pair(seed=1).state_dict()}, tmp_path / 'iter_1.pth')
    return str(tmp_path / 'iter_1.pth')


def test_metrics_equal_those_of_separate_evaluations(checkpoint, tmp_path):
    alone = {}
    for name in ('student', 'teacher'):
        model = Pair()
        model.semi_test_cfg['predict_on'] = name
        metrics, _ = evaluate(tmp_path / name, 'TestLoop', model, load_from=checkpoint)
        alone[f'{name}/test/mean'] = metrics.pop('test/mean')
        assert metrics == {}
    assert alone['student/test/mean'] != alone['teacher/test/mean']

    model = Pair().train()
    model.semi_test_cfg['predict_on'] = 'teacher'
    both, runner = evaluate(
        tmp_path / 'both', 'TeacherStudentTestLoop', model, load_from=checkpoint
    )
    assert both == alone
    (written,) = Path(runner.log_dir).glob('*.json')
    assert alone.items() <= json.loads(written.read_text()).items()
    (log,) = Path(runner.log_dir).glob('*.log')
    for name, value in alone.items():
        assert f'{name}: {value:.4f}' in log.read_text()
    # ``predict_on`` is restored, and a second run gives the same.
    assert model.semi_test_cfg == dict(predict_on='teacher')
    assert runner.test_loop.run() == alone


@pytest.mark.parametrize('missing', ['teacher', 'semi_test_cfg'])
def test_model_without_teacher_or_test_cfg_raises(missing, tmp_path):
    model = Pair()
    setattr(model, missing, None)
    with pytest.raises(ValueError, match=f'Pair has no {missing}, so there are no two'):
        evaluate(tmp_path, 'TeacherStudentTestLoop', model)


@pytest.mark.parametrize('dataset', ['cityscapes', 'synthscapes'])
def test_log_has_each_validation_without_averaging(dataset, tmp_path):
    """Use the configs' log processor, which averages the values named teacher_*."""
    config = Config.fromfile(CONFIGS / f'guided_distillation/distill_{dataset}.py')
    seen = []

    class Metrics(Hook):
        def after_val_epoch(self, runner, metrics=None):
            seen.append(metrics)

    runner = make_runner(
        tmp_path,
        Pair(),
        [hook(burn_in_iters=0), Metrics()],
        val_interval=5,
        log_processor=config.log_processor,
        **evaluation('val', 'TeacherStudentValLoop'),
    )
    runner.train()
    assert seen[0]['teacher/test/mean'] != seen[1]['teacher/test/mean']
    text = Path(runner.log_dir, 'vis_data/scalars.json').read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    logged = [line for line in lines if 'teacher/test/mean' in line]
    for line, metrics in zip(logged, seen, strict=True):
        assert metrics.items() <= line.items()
