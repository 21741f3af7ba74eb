"""Test the contrast monitor in a real run, with curves."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from stock_students import stock_wrapper, two_sources

from mmcast.engine.hooks import ContrastMonitorHook
from mmcast.engine.hooks.contrast_monitor_hook import instances_on_grid
from mmcast.models.losses import Grid
from mmcast.report.data import read_scalars

ROOT = Path(__file__).resolve().parents[2]


def sample(*masks):
    array = np.array(masks, np.uint8)
    instances = InstanceData(masks=BitmapMasks(array, *array.shape[1:]))
    return DetDataSample(gt_instances=instances)


def test_instances_on_a_padded_grid():
    """Read 8 x 6 pixels, padded to 8 x 8, on a grid of 4 x 4 cells."""
    one, two = np.zeros((8, 6), int), np.zeros((8, 6), int)
    one[:4, :2] = 1
    two[4:, 2:6] = 1
    cells = Grid.of_map((4, 4), [(8, 6)], (8, 8))
    found = instances_on_grid(sample(one, two), (8, 8), cells).view(4, 4)
    assert found.tolist() == [
        [0, -1, -1, -1],
        [0, -1, -1, -1],
        [-1, 1, 1, -1],
        [-1, 1, 1, -1],
    ]
    nothing = DetDataSample(
        gt_instances=InstanceData(masks=BitmapMasks(np.zeros((0, 8, 6)), 8, 6))
    )
    assert instances_on_grid(nothing, (8, 8), cells).tolist() == [-1] * 16


def run(synthscapes, work_dir, hooks):
    config = Config.fromfile(ROOT / 'configs/mmcast/adapt_synthscapes.py')
    config.merge_from_dict(
        {
            'train_dataloader.dataset.labeled_dataset.data_root': str(synthscapes),
            'val_dataloader.dataset.data_root': str(synthscapes),
            'test_dataloader.dataset.data_root': str(synthscapes),
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.batch_size': 2,
            'train_cfg.max_iters': 4,
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint.save_last': False,
            'randomness': dict(seed=0),
        }
    )
    config.val_evaluator.ann_file = config.test_evaluator.ann_file = str(
        synthscapes / 'annotations/instancesonly_filtered_gtFine_val.json'
    )
    config.model.init_cfg = None
    config.custom_hooks = hooks
    config.work_dir = str(work_dir)
    runner = Runner.from_cfg(config)
    runner.train()
    return [p.detach().clone() for p in runner.model.parameters()]


def test_monitor_logs_curves_and_does_not_change_training(
    synthscapes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    watched = run(
        synthscapes,
        tmp_path / 'watched',
        [dict(type='ContrastMonitorHook', interval=2)],
    )
    unwatched = run(synthscapes, tmp_path / 'unwatched', [])
    for a, b in zip(watched, unwatched, strict=True):
        assert torch.equal(a, b)
    # What the report draws.
    logged = read_scalars(tmp_path / 'watched')
    for name in 'contrast/margin', 'contrast/fnr_gt', 'loss_pxl':
        assert logged[name], name
    assert 'contrast/margin' not in read_scalars(tmp_path / 'unwatched')


@pytest.mark.parametrize('labels', [True, False])
def test_the_wrappers_contrast_is_monitored(labels):
    """Without labels yet, the images of an online teacher take no part."""
    model = stock_wrapper(
        'mask_rcnn',
        pixel_contrast=dict(
            type='PixelContrastHead',
            in_channels=64,
            in_index=2,
            loss=dict(type='PixelContrastLoss'),
        ),
    )
    if not labels:
        model.teacher = copy.deepcopy(model.student)
        model.labeling_enabled = False
    written = {}
    runner = SimpleNamespace(
        model=model,
        iter=0,
        visualizer=SimpleNamespace(
            add_scalars=lambda figures, step: written.update(figures)
        ),
    )
    hook = ContrastMonitorHook(interval=1)
    hook.before_run(runner)
    inputs, samples = two_sources()
    hook.before_train_iter(runner, 0)
    model.loss(inputs, samples)
    hook.after_train_iter(runner, 0, dict(data_samples=samples))
    assert 0 <= written['contrast/fnr_gt'] <= 1
    assert ('contrast/fnr_query' in written) is labels


def test_model_without_contrast_raises():
    hook = dict(type='ContrastMonitorHook')
    config = Config.fromfile(ROOT / 'configs/mmcast/supervised_synthscapes.py')
    from mmdet.registry import HOOKS, MODELS

    config.model.init_cfg = None
    runner = type('Runner', (), {'model': MODELS.build(config.model)})()
    with pytest.raises(ValueError, match='finds no PixelContrastLoss'):
        HOOKS.build(hook).before_run(runner)
