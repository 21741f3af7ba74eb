"""Run the stock `mim train`, `--resume` and `mim test` one after the other."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from warm import Warm

import mmcast  # noqa: F401  (applies compat)
from mmcast._requirements import mim_name

MIM = Path(sys.executable).with_name('mim')
CONFIG = """
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmcast'], allow_failed_imports=False)
model = dict(
    backbone=dict(depth=18, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=32, num_classes=1),
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32, num_classes=1)))
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(96, 64)),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape',
         'img_shape', 'scale_factor')),
]
data = dict(
    type='CocoDataset', ann_file='ann.json', data_root={root!r},
    data_prefix=dict(img=''), metainfo=dict(classes=('square',)), pipeline=load)
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=data,
    sampler=dict(type='InfiniteSampler', shuffle=True))
test_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dict(test_mode=True, **data),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_evaluator = dict(
    type='CocoMetric', ann_file={root!r} + '/ann.json', metric='segm')
test_cfg = dict(type='TestLoop')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
param_scheduler = dict(type='PolyLR', power=0.9, by_epoch=False, end=100)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=4), logger=dict(interval=1))
log_processor = dict(by_epoch=False)
"""


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with six images, their annotations and a config."""
    root = tmp_path_factory.mktemp('mim')
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(6):
        image = rng.integers(0, 90, (64, 96, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(4, 32, 2))
        image[y : y + 24, x : x + 24] = 255
        cv2.imwrite(str(root / f'{i}.png'), image)
        images.append({'id': i, 'file_name': f'{i}.png', 'height': 64, 'width': 96})
        outline = [x, y, x + 24, y, x + 24, y + 24, x, y + 24]
        annotations.append(
            {
                'id': i + 1,
                'image_id': i,
                'category_id': 1,
                'bbox': [x, y, 24, 24],
                'area': 576,
                'iscrowd': 0,
                'segmentation': [outline],
            }
        )
    categories = [{'id': 1, 'name': 'square'}]
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    (root / 'ann.json').write_text(json.dumps(content))
    (root / 'config.py').write_text(CONFIG.format(root=str(root)))
    return root


@pytest.fixture(scope='module')
def resumed(work: Path, warm: Warm) -> str:
    """Train four iterations, resume up to eight, and return the second output."""
    words = ['train', mim_name(), work / 'config.py', '--work-dir', work / 'out']
    words += ['--launcher', 'none']
    warm('mim', *words, cwd=work, check=True)
    words += ['--resume', '--cfg-options', 'train_cfg.max_iters=8']
    # Run outside the repository, so that mim must find mmcast where it is installed.
    result = subprocess.run([MIM, *words], capture_output=True, text=True, cwd=work)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


def test_resume_continues_from_the_checkpoint(work: Path, resumed: str) -> None:
    assert 'resumed epoch: 0, iter: 4' in resumed
    assert 'Iter(train) [5/8]' in resumed
    assert 'Iter(train) [4/8]' not in resumed
    first = torch.load(work / 'out' / 'iter_4.pth')
    last = torch.load(work / 'out' / 'iter_8.pth')
    steps = {state['step'].item() for state in last['optimizer']['state'].values()}
    assert steps == {8}
    assert last['param_schedulers'][0]['last_step'] == 8
    before = first['message_hub']['log_scalars']['train/loss'].data[0]
    after = last['message_hub']['log_scalars']['train/loss'].data[0]
    assert len(before) == 4
    assert len(after) == 8
    np.testing.assert_array_equal(before, after[:4])


def test_mim_test_reads_the_checkpoint(work: Path, resumed: str, warm: Warm) -> None:
    checkpoint = str(work / 'out' / 'iter_8.pth')
    words = ['test', mim_name(), work / 'config.py', '--checkpoint', checkpoint]
    done = warm('mim', *words, '--work-dir', work / 'out', cwd=work, check=True)
    assert 'coco/segm_mAP' in done.stdout


def test_foreseen_error_is_the_last_line_before_mims_own(
    work: Path, warm: Warm
) -> None:
    """Train from annotations that are missing."""
    config = work / 'wrong.py'
    config.write_text(
        "_base_ = './config.py'\n"
        "train_dataloader = dict(dataset=dict(type='ListedCocoDataset', "
        "ann_file='none.json'))\n"
    )
    words = ['train', mim_name(), config, '--work-dir', work / 'wrong']
    result = warm('mim', *words, '--launcher', 'none', cwd=work)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    ours, mims = (
        [i for i, text in enumerate(lines) if text.startswith(start)]
        for start in ('error: ', 'Traceback')
    )
    assert lines[ours[0]].startswith(
        f"error: annotation file '{work}/none.json' does not exist (looked in"
    )
    assert mims == [ours[0] + 1]
    assert 'CalledProcessError' in lines[-1]
