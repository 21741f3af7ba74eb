"""Test what stages say about their gain, and which teacher the next one takes."""

import json
import logging
from pathlib import Path

import pytest
import torch
from mmdet.registry import METRICS
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import mmcast  # noqa: F401
from mmcast.engine.hooks import ExportHook, PseudoLabelHook
from mmcast.engine.stages import MASK_AP, mask_ap, metrics_file, plain_config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/mmcast'


class Network(BaseModel):
    """A model with a student, and maybe another network that predicts."""

    def __init__(self, predict_on: str = 'student') -> None:
        super().__init__()
        self.student = nn.Linear(1, 1)
        self.semi_test_cfg = dict(predict_on=predict_on)

    def forward(self, inputs, data_samples=None, mode='loss'):
        if mode == 'loss':
            return {'loss': self.student(torch.ones(1)).sum()}
        return [torch.zeros(1)]


@METRICS.register_module()
class GrowingAP(BaseMetric):
    """A mask AP of 0.1, then 0.2 and so on."""

    def __init__(self, key: str = MASK_AP, start: int = 0) -> None:
        super().__init__()
        self.key = key
        self.rounds = start

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def evaluate(self, size: int) -> dict[str, float]:
        self.rounds += 1
        self.results.clear()
        return {self.key: self.rounds / 10} if self.key else {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        raise NotImplementedError


def train(
    work_dir: Path,
    *,
    interval: int = 2,
    load_from: Path | None = None,
    model: BaseModel | None = None,
    key: str = MASK_AP,
    start: int = 0,
    begin: int = 1,
    **export: object,
) -> str:
    """Train for 4 iterations; return what is said about the export."""
    loader = dict(dataset=[torch.zeros(1)] * 4, batch_size=1, num_workers=0)
    infinite = dict(type='InfiniteSampler')
    runner = Runner(
        model=model or Network(),
        work_dir=str(work_dir),
        train_dataloader=dict(loader, sampler=infinite),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler')),
        val_evaluator=dict(type='GrowingAP', key=key, start=start),
        train_cfg=dict(
            type='IterBasedTrainLoop',
            max_iters=4,
            val_interval=interval,
            val_begin=begin,
        ),
        val_cfg=dict(type='ValLoop'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=None, export=dict(type='ExportHook', **export)),
        default_scope='mmdet',
        experiment_name=str(work_dir).replace('/', '_'),  # a logger of its own
    )
    runner._load_from = load_from and str(load_from)
    runner.load_or_resume = lambda: None
    runner.train()
    (log,) = work_dir.glob('*/*.log')
    lines = [line for line in log.read_text().splitlines() if 'student.pth has' in line]
    return '\n'.join(line.partition(' - mmengine - ')[2] for line in lines)


def measured(path: Path, ap: float) -> Path:
    """Write what a stage leaves that measured an AP (0 to 1)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    metrics_file(path).write_text(json.dumps(dict(iteration=1, metrics={MASK_AP: ap})))
    return path


def test_metrics_of_the_last_iteration_are_written(tmp_path):
    work = tmp_path / 'alone'
    assert train(work) == (
        f'INFO - {work}/student.pth has mask AP 20.0 on the validation images.'
    )
    content = json.loads((work / 'student.json').read_text())
    assert content == {'iteration': 4, 'metrics': {MASK_AP: 0.2}}
    assert mask_ap(work / 'student.pth') == pytest.approx(20)


def test_nothing_is_written_of_another_network(tmp_path):
    """What an earlier run wrote goes, too."""
    measured(tmp_path / 'other/student.pth', 0.9)
    model = Network(predict_on='teacher')
    assert train(tmp_path / 'other', model=model) == ''
    assert not (tmp_path / 'other/student.json').exists()
    model = Network(predict_on='teacher')
    key = f'student/{MASK_AP}'
    assert 'mask AP 20.0' in train(tmp_path / 'both', model=model, key=key)


@pytest.mark.parametrize(('before', 'level'), [(0.15, 'INFO'), (0.25, 'WARNING')])
def test_gain_over_the_stage_before(tmp_path, before, level):
    earlier = measured(tmp_path / 'before/student.pth', before)
    gain = '+5.0' if before < 0.2 else '-5.0'
    expected = f', {gain} against {earlier} ({100 * before:.1f})'
    for name, how in {
        'given': dict(compare_with=str(earlier)),
        'loaded': dict(load_from=earlier),
    }.items():
        text = train(tmp_path / f'{name}', **how)
        assert text.startswith(level)
        assert expected in text
        assert ('this stage lost' in text) == (level == 'WARNING')


def test_nothing_to_evaluate_is_a_warning(tmp_path):
    text = train(tmp_path / 'alone', start=-12)
    assert text.startswith('WARNING')
    assert 'has mask AP -1, which means that there was nothing to evaluate' in text


def test_a_model_that_finds_nothing_is_a_warning(tmp_path):
    """CocoMetric then returns no metrics."""
    text = train(tmp_path / 'alone', key='')
    assert text.startswith('WARNING')
    assert 'has no metrics: the model found nothing in the validation images' in text


def test_no_validation_after_the_last_iteration_is_a_warning(tmp_path):
    text = train(tmp_path / 'alone', begin=5)
    assert text.startswith('WARNING')
    assert 'did not validate after its last iteration, 4. Measure it with' in text
    assert not (tmp_path / 'alone/student.json').exists()


def test_damaged_metrics_raise(tmp_path):
    path = tmp_path / 'teacher.pth'
    assert mask_ap(path) is None
    for text in 'x', '[]', '{"metrics": 3}':
        metrics_file(path).write_text(text)
        with pytest.raises(ValueError, match=r'teacher\.json is not what a stage'):
            mask_ap(path)


def choose(files: list[Path], caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """Return the teacher that the hook takes, and what it says."""
    hook = PseudoLabelHook([str(file) for file in files])
    runner = type('Runner', (), {'logger': logging.getLogger('choice')})
    caplog.clear()
    with caplog.at_level('INFO'):
        hook._choose(runner)
    return Path(hook.teacher).parent.name, caplog.text


def test_the_better_teacher_is_taken(tmp_path, caplog):
    adapted = measured(tmp_path / 'adapt/teacher.pth', 0.218)
    trained = measured(tmp_path / 'selftrain/teacher.pth', 0.132)
    name, text = choose([trained, adapted], caplog)
    assert name == 'adapt'
    assert 'WARNING' in text
    assert f'{adapted} with mask AP 21.8' in text
    assert f'{trained} has 13.2' in text
    measured(trained, 0.3)
    name, text = choose([trained, adapted], caplog)
    assert name == 'selftrain'
    assert 'WARNING' not in text
    # One that was not measured is no reason to take another.
    metrics_file(trained).unlink()
    assert choose([trained, adapted], caplog) == ('selftrain', '')
    trained.unlink()  # the check that follows names the command that makes it
    assert choose([trained, adapted], caplog) == ('selftrain', '')


def test_no_teacher_raises():
    with pytest.raises(ValueError, match='has no teacher'):
        PseudoLabelHook([])


def test_plain_config_has_the_students_model(tmp_path):
    def write(name: str, model: dict) -> Config:
        (tmp_path / name).write_text(f'_base_ = []\nmodel = {model}\n')
        return Config({}, filename=str(tmp_path / name))

    detector = dict(type='MaskRCNN', neck=dict(num_outs=5))
    wrapper = write('distill_x.py', dict(type='Wrapper', student=detector))
    assert plain_config(wrapper) is None
    plain = write('supervised_x.py', {**detector, 'pixel_contrast': None})
    assert plain_config(plain) is None
    write('adapt_x.py', {**detector, 'neck': dict(num_outs=4)})
    write('adapt_y.py', detector)
    (tmp_path / 'a_x.py').write_text('raise RuntimeError("not a config")\n')
    assert plain_config(wrapper) == tmp_path / 'supervised_x.py'
    assert plain_config(Config({})) is None


@pytest.mark.parametrize(
    ('stage', 'plain'),
    [
        ('distill_cityscapes', 'supervised_cityscapes'),
        ('selftrain_ade20k', 'adapt_ade20k'),
        ('selftrain_cityscapes_mask2former', 'adapt_cityscapes_mask2former'),
        ('guided_distillation/distill_coco', 'guided_distillation/teacher_coco'),
        ('own_data/small/distill', 'own_data/small/supervised'),
    ],
)
def test_plain_config_of_a_stage(stage, plain):
    running = Config({}, filename=str(CONFIGS / f'{stage}.py'))
    assert plain_config(running) == CONFIGS / f'{plain}.py'


def test_exporters_of_teachers_compare_with_the_teacher(tmp_path):
    runner = type('Runner', (), {'_load_from': None, 'hooks': []})
    runner.hooks = [PseudoLabelHook('work_dirs/adapt/teacher.pth')]
    adapted = 'work_dirs/adapt/teacher.pth'
    assert ExportHook('teacher.pth')._inputs(runner) == (adapted, adapted)
    assert ExportHook('student.pth')._inputs(runner) == (None, adapted)
    runner._load_from = 'work_dirs/distill/student.pth'
    found = ExportHook('student.pth')._inputs(runner)
    assert found == (runner._load_from, adapted)


@pytest.mark.parametrize(('of_teacher', 'warns'), [(0.3, False), (0.25, True)])
def test_a_teacher_that_is_no_better_is_named_before_training(
    tmp_path, caplog, of_teacher, warns
):
    teacher = measured(tmp_path / 'adapt/teacher.pth', of_teacher)
    student = measured(tmp_path / 'supervised/student.pth', 0.25)
    hook = ExportHook(compare_with=str(student))
    runner = type('Runner', (), {'_load_from': None})
    runner.hooks = [hook, PseudoLabelHook(str(teacher))]
    runner.logger = logging.getLogger('before')
    hook._warn_of_teacher(runner)
    expected = (
        f'The teacher {teacher} (mask AP 25.0 on the validation images) is no better '
        f'than {student} (25.0): its labels will hardly help. Train a better one, or '
        'keep that file.'
    )
    assert caplog.messages == [expected] * warns
    # A teacher that trains on is compared with itself alone.
    ExportHook('teacher.pth')._warn_of_teacher(runner)
    assert caplog.messages == [expected] * warns


@pytest.mark.parametrize('compares', [False, True])
def test_a_students_line_names_its_teacher(tmp_path, caplog, compares):
    teacher = measured(tmp_path / 'adapt/teacher.pth', 0.3)
    other = measured(tmp_path / 'supervised/student.pth', 0.05)
    hook = ExportHook(compare_with=str(other) if compares else None)
    runner = type('Runner', (), {'_load_from': None, 'hooks': [hook]})
    runner.logger = logging.getLogger('teacher')
    runner.hooks.append(PseudoLabelHook(str(teacher)))
    with caplog.at_level('INFO'):
        hook._tell_gain(runner, Path('student.pth'), {MASK_AP: 0.25})
    gain = f', +20.0 against {other} (5.0)' if compares else ''
    assert caplog.messages == [
        f'student.pth has mask AP 25.0 on the validation images{gain}; its teacher '
        f'{teacher} has 30.0.'
    ]
    assert caplog.records[0].levelname == 'INFO'
