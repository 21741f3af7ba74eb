"""Test that the benchmarks run, and that their comparisons are fair."""

import argparse
import importlib.util
import json
from pathlib import Path

import pytest
import torch

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
