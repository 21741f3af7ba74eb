"""Test that the benchmarks run, and that their comparisons are fair."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine import Config
from runs import hardware

from mmcast.models.losses import PRESETS, PixelContrastLoss

TOOLS = Path(__file__).resolve().parents[2] / 'tools/benchmarks'
CASE_KEYS = (
    *('B', 'h', 'w', 'K', 'C', 'D', 'R', 'preset', 'ours_s', 'dense_s', 'speedup'),
    *('ours_mb', 'dense_mb', 'memory_ratio'),
)


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(warm):
    def measure(name, *options):
        return warm(TOOLS / f'{name}.py', *options, check=True).stdout

    return measure


@pytest.mark.parametrize('preset', PRESETS)
def test_dense_algorithm_has_the_same_loss(preset):
    """Compare means over many draws; with a small R, top-k draws almost the same."""
    bench = load('pixel_contrast')
    inputs = bench.make_inputs(3, 12, 16, 20, 8, 16, 'cpu')
    options = {**PRESETS[preset], 'max_anchors': None, 'max_candidates': None}
    ours = PixelContrastLoss(num_negatives=5, loss_weight=1.0, **options).eval()
    torch.manual_seed(0)
    found = torch.stack([ours(*inputs) for _ in range(30)]).mean()
    dense = torch.stack(
        [
            bench.dense_contrast(
                *inputs,
                score=ours.score,
                candidates=ours.candidates,
                unit=ours.unit_scores,
                temperature=ours.temperature.value,
                margin=ours.margin,
                R=5,
            )
            for _ in range(30)
        ]
    ).mean()
    # Jensen: the log of the expected sum is above the expectation of its log.
    slack = 0.1 if ours.negatives == 'expected' else 0.01
    assert 1 - 0.01 < found / dense < 1 + slack


def test_pixel_contrast_writes_its_report(run, tmp_path):
    file = tmp_path / 'sub/out.json'
    sizes = ['--size', '16', '16', '--batch', '2', '--repeats', '1']
    text = run(
        'pixel_contrast', *sizes, '--cases', 'default', '--no-scaling', '--json', file
    )
    assert 'speedup' in text
    report = json.loads(file.read_text())
    assert set(report) == {'cases', 'scaling', 'device'}
    (case,) = report['cases']
    assert set(CASE_KEYS) <= set(case)
    assert case['speedup'] > 0
    # At least two matrices of all pairs, 4 bytes each, are in memory at a time.
    assert case['dense_mb'] > 2 * 256 * 512 * 4 / 1e6


def test_train_step_writes_its_report(run, tmp_path):
    file = tmp_path / 'out.json'
    config = TOOLS.parents[1] / 'configs/mmcast/distill_synthscapes.py'
    options = ['--size', '64', '64', '--batch', '2', '--repeats', '2']
    run('train_step', '--config', config, *options, '--json', file)
    report = json.loads(file.read_text())
    assert report['batch'] == 2
    assert report['with_contrast_s'] > report['encoder_s'] > 0
    assert 'contrast_share_of_floor' in report
    for name in ('stock_head_s', 'stock_head_mb', 'ours_mb'):
        assert report[name] > 0, name
    assert report['ratio'] == report['stock_head_s'] / report['with_contrast_s']


def test_prediction_is_compared_on_the_same_weights(run, tmp_path):
    file = tmp_path / 'out.json'
    options = ['--cases', 'dpt256', '--size', '60', '90', '--repeats', '1']
    assert 'times as fast' in run('predict', *options, '--json', file)
    (case,) = json.loads(file.read_text())['cases']
    assert (case['student'], case['size']) == ('dpt256', [60, 90])
    for name in ('stock_s', 'ours_s', 'head_stock_s', 'head_ours_s', 'stock_mb'):
        assert case[name] > 0, name
    assert case['max_mask_difference'] < 1e-2


def test_loading_is_compared_on_the_same_images(run, tmp_path):
    file = tmp_path / 'out.json'
    run('loading', '--size', '512', '1024', '--images', '2', '--json', file)
    report = json.loads(file.read_text())
    for name in ('stock', 'labelled', 'pseudo_labelled', 'image_alone'):
        assert report[f'{name}_images_per_s'] == pytest.approx(1 / report[f'{name}_s'])


def test_large_pool_is_measured(run, tmp_path):
    file = tmp_path / 'out.json'
    run('large_pool', '--start', '1500', '--label', '40', '--json', file)
    report = json.loads(file.read_text())
    for way in ('list', 'folder'):
        row = report[f'start_{way}']
        assert row['images'] == 1500
        assert row['missing_peak_mb'] >= row['build_peak_mb'] >= row['imports_mb'] > 0
        assert row['worker_mb'] < 20
    assert report['label']['images'] == 40
    assert report['load']['images'] == 39  # one is labelled
    for part in ('label', 'load'):
        assert report[part]['peak_mb'] > 0


def test_both_ways_of_labelling_are_measured(tmp_path):
    """Run in this process; the tool starts a process for each case."""
    bench = load('labelling')
    config, checkpoint = bench.save_tiny_teacher(tmp_path, (64, 128))
    bench.make_images(tmp_path / 'images', 30, (64, 128))
    assert len({p.stat().st_ino for p in (tmp_path / 'images').iterdir()}) == 20
    args = argparse.Namespace(
        config=config,
        checkpoint=checkpoint,
        img_root=tmp_path / 'images',
        device='cpu',
        num_workers=0,
    )
    for way in ('ours', 'obvious'):
        row = bench.measure(args, way, 5)
        assert row['images'] == 5
        assert row['images_per_s'] > 0
        assert row['peak_mb'] >= row['ready_mb'] > 0


def test_teacher_runs_differ_only_in_the_contrast(tmp_path, monkeypatch):
    bench = load('teacher_contrast')
    sizes = ['--iterations', '1', '--foundation', '1', '1', '--images', '4', '4', '2']
    options = ['--seeds', '3', *sizes, '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['teacher_contrast.py', *options])
    bench.measure(bench.parse_args())
    report = json.loads((tmp_path / 'teacher_contrast.json').read_text())
    assert set(report['runs']) == {'without', 'with'}
    for runs in report['runs'].values():
        assert runs['3']['seconds'] > 0
        assert set(bench.METRICS) < set(runs['3'])
    models = []
    for variant in report['runs']:
        (file,) = tmp_path.glob(f'{variant}_3_*/adapt_cityscapes.py')
        config = Config.fromfile(file)
        assert config.randomness.seed == 3
        (masks,) = tmp_path.glob('sam2_*/segmenter.pth')
        assert config.model.segmenter.init_cfg.checkpoint == str(masks)
        (boxes,) = tmp_path.glob('detector_*/teacher.pth')
        assert config.model.detector.init_cfg.checkpoint == str(boxes)
        for told_apart in ('work_dir', 'experiment_name'):
            config.pop(told_apart)
        models.append(config.pop('model'))
        models[-1].rest = config._cfg_dict
    without, contrasted = models
    assert contrasted.pop('pixel_contrast').loss.loss_weight == 0.1
    assert 'strong_view' not in contrasted
    assert without == contrasted
    # A second call repeats no run.
    monkeypatch.delattr(bench, 'train')
    bench.measure(bench.parse_args())
    assert report == json.loads((tmp_path / 'teacher_contrast.json').read_text())


def test_teacher_table_has_spread_and_difference(tmp_path, monkeypatch):
    bench = load('teacher_contrast')
    monkeypatch.setattr(sys, 'argv', ['teacher_contrast.py', '--out', str(tmp_path)])
    args = bench.parse_args()
    rest = dict(mask_ap=0.0, mask_ap50=0.0)
    without = {
        0: dict(box_ap=10.0, box_ap50=20.0, **rest, seconds=0.1),
        1: dict(box_ap=13.0, box_ap50=24.0, **rest, seconds=0.3),
        2: dict(box_ap=99.0, box_ap50=99.0, **rest, seconds=0.2),
    }
    contrasted = {
        0: dict(box_ap=12.0, box_ap50=21.0, **rest, seconds=0.5),
        1: dict(box_ap=12.0, box_ap50=22.0, **rest, seconds=0.7),
    }
    bench.report({'without': without, 'with': contrasted}, args)
    text = (tmp_path / 'teacher_contrast.md').read_text()
    for row in (
        '| labels alone | 40.7 (10.0 to 99.0) | 47.7 (20.0 to 99.0) |',
        '| + pixel loss | 12.0 (12.0 to 12.0) | 21.5 (21.0 to 22.0) |',
        '| difference, seed by seed | 0.5 (-1.0 to 2.0) | -0.5 (-2.0 to 1.0) |',
        '| 3 | 0.20 |',
        '| 2 | 0.60 |',
    ):
        assert row in text
    summary = json.loads((tmp_path / 'teacher_contrast.json').read_text())['summary']
    assert summary['with']['box_ap50'] == dict(mean=21.5, least=21.0, most=22.0)
    for told in (
        f'python tools/benchmarks/teacher_contrast.py --out {tmp_path}`',
        hardware('cpu'),
        f'torch {torch.__version__}',
    ):
        assert told in text
