"""Follow docs/own_data.md: its layout, command, config and stages."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import Runner

import mmcast  # noqa: F401
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.splits import read_list
from mmcast.engine.stages import command_of, labels_of

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / 'docs/own_data.md').read_text()
(CONFIG,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
SPLIT, STAGES = re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)

# Makes two iterations fast enough on a CPU: small crops and batches, no checkpoints.
SMALL = {
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.dataset.weak_view.0.scales': [84, 112],
    'train_dataloader.dataset.weak_view.1.crop_size': (84, 84),
    'train_cfg.max_iters': 2,
    'train_cfg.val_interval': 2,
    'val_dataloader.dataset.pipeline.1.scale': (168, 126),
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'default_hooks.checkpoint.interval': -1,
    'default_hooks.checkpoint.save_last': False,
    'default_hooks.logger.interval': 1,
}

READ_BY_RUNNER = {
    'default_hooks',
    'model',
    'test_dataloader',
    'test_evaluator',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
}


def write_images(root: Path, split: str, count: int, first: int) -> None:
    """Write images with a cat (dark square) and a dog (bright square) each."""
    rng = np.random.default_rng(first)
    images, annotations = [], []
    for i in range(first, first + count):
        image = rng.integers(80, 120, (96, 128, 3), np.uint8)
        name = f'{split}/{i:03}.jpg'
        images.append({'id': i, 'file_name': name, 'height': 96, 'width': 128})
        for category, grey in ((1, 0), (2, 255)):
            x, y = int(rng.integers(2, 30)) + 60 * (category - 1), int(rng.integers(50))
            image[y : y + 40, x : x + 40] = grey
            annotations.append(
                {
                    'id': len(annotations),
                    'image_id': i,
                    'category_id': category,
                    'bbox': [x, y, 40, 40],
                    'area': 1600,
                    'iscrowd': 0,
                    'segmentation': [[x, y, x + 40, y, x + 40, y + 40, x, y + 40]],
                }
            )
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)
    path = root / f'annotations/{split}.json'
    path.parent.mkdir(exist_ok=True)
    categories = [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}]
    content = dict(images=images, categories=categories, annotations=annotations)
    path.write_text(json.dumps(content))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a user's checkout and follow sections 1 to 3 of the page in it."""
    folder = tmp_path_factory.mktemp('checkout')
    (folder / 'configs').mkdir()
    for part in ('configs/mmcast', 'tools'):
        (folder / part).symlink_to(REPOSITORY / part)
    write_images(folder / 'data/pets', 'train', 12, 0)
    write_images(folder / 'data/pets', 'val', 2, 100)
    python, *command = shlex.split(SPLIT)
    assert python == 'python'
    with pytest.MonkeyPatch.context() as patch:
        # Run in this process: a new one needs many seconds for its imports.
        patch.chdir(folder)
        patch.setattr(sys, 'argv', command)
        runpy.run_path(command[0], run_name='__main__')
    (folder / 'configs/pets.py').write_text(CONFIG)
    return folder


@pytest.fixture
def load(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)

    def load_stage(stage: str) -> Config:
        monkeypatch.setenv('STAGE', stage)
        return Config.fromfile('configs/pets.py')

    return load_stage


def test_command_writes_two_lists(folder: Path) -> None:
    labeled = read_list(folder / 'data/pets/splits/labeled.txt')
    unlabeled = read_list(folder / 'data/pets/splits/unlabeled.txt')
    assert len(labeled) == 3
    assert sorted(labeled + unlabeled) == [f'train/{i:03}.jpg' for i in range(12)]


def test_each_stage_reads_the_previous_stages_files(load) -> None:
    """Check also that no path of ADE20K remains."""
    stages = re.findall(r'STAGE=(\w+) mim train mmdet configs/pets.py', STAGES)
    assert stages == ['supervised', 'adapt', 'selftrain', 'distill', 'finetune']
    left: set[str] = set()
    for stage in stages:
        cfg = load(stage)
        assert cfg.work_dir == f'work_dirs/{stage}_pets'
        hooks = cfg.default_hooks
        if stage in ('selftrain', 'distill'):
            assert hooks.pseudo_labels.teacher in left
            assert hooks.pseudo_labels.config in left
            assert command_of(hooks.pseudo_labels.teacher, cfg).startswith('STAGE=')
        model = cfg.model.get('student', cfg.model)
        if stage in ('adapt', 'selftrain'):
            assert tuple(model.classes) == ('cat', 'dog')
        else:
            assert model.num_classes == 2
        if stage == 'finetune':
            assert cfg.load_from in left
            assert command_of(cfg.load_from, cfg) == (
                'STAGE=distill mim train mmdet configs/pets.py'
            )
        left.add(f'{cfg.work_dir}/{hooks.export.out}')
        left.add(f'{cfg.work_dir}/pets.py')
        read = [value for key, value in cfg.items() if key in READ_BY_RUNNER]
        assert 'ADEChallenge' not in str(read)
        dataset = cfg.val_dataloader.dataset
        assert len(DATASETS.build({**dataset, 'pipeline': []})) == 2


@pytest.mark.parametrize('stage', ['supervised', 'distill'])
def test_two_iterations(load, folder: Path, stage: str) -> None:
    """Train and validate a supervised and a semi-supervised stage on the lists.

    The test writes the pseudo-labels, so it needs no teacher of full size.
    """
    cfg = load(stage)
    student = 'model.student' if stage == 'distill' else 'model'
    cfg.merge_from_dict(
        {
            **SMALL,
            f'{student}.backbone.init_cfg': None,
            f'{student}.panoptic_head.transformer_decoder.num_layers': 1,
            f'{student}.train_cfg.num_points': 256,
        }
    )
    cfg.work_dir = str(folder / stage)
    if stage == 'distill':
        store = PseudoLabelStore.create(
            labels_of(cfg.default_hooks.pseudo_labels.teacher),
            classes=cfg.images.metainfo.classes,
            teacher=Teacher('a', 'b', '0' * 64),
        )
        mask = np.zeros((96, 128), np.uint8, order='F')
        mask[20:70, 30:90] = 1
        for name in read_list(folder / 'data/pets/splits/unlabeled.txt'):
            store.write(
                name,
                (96, 128),
                [1],
                [0.9],
                [[30, 20, 90, 70]],
                [mask_utils.encode(mask)],
            )
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    assert len(runner.val_dataloader.dataset) == 2
    logs = (next((folder / stage).rglob('vis_data/*.json'))).read_text()
    losses = [json.loads(line).get('loss') for line in logs.splitlines()]
    assert all(np.isfinite(loss) for loss in losses if loss is not None)
    assert sum(loss is not None for loss in losses) == 2
    assert 'coco/segm_mAP' in logs
