"""A data set of a user, and checks of the configs that own-data writes for it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmcast.cli import main

ROOT = Path(__file__).resolve().parents[1]
SIZES = ('small', 'medium', 'full')
STAGES = {
    size: [
        stage
        for stage in ('supervised', 'adapt', 'selftrain', 'distill', 'finetune')
        if (ROOT / f'configs/mmcast/own_data/{size}/{stage}.py').is_file()
    ]
    for size in SIZES
}
PETS = ['--coco', 'data/pets/train.json', '--images', 'data/pets/images']


def write_pets(
    root: Path,
    file: str,
    first: int,
    count: int,
    unlabelled: int = 0,
    names: tuple[str, ...] = ('cat', "dog's friend", 'unicorn'),
) -> None:
    """Write images with a cat each, a dog in every second, and their COCO file."""
    rng = np.random.default_rng(first)
    (root / 'images').mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(first, first + count + unlabelled):
        image = rng.integers(80, 120, (48, 64, 3), np.uint8)
        name = f'{i:03}.png'
        if i < first + count:
            images.append(dict(id=i, file_name=name, height=48, width=64))
        for category in (1, 2)[: 1 + i % 2]:
            x, y = (int(v) for v in rng.integers(2, 20, 2))
            x += 20 * category - 20
            image[y : y + 20, x : x + 20] = 255 * (category - 1)
            if i < first + count:
                outline = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
                annotations.append(
                    dict(id=len(annotations), image_id=i, category_id=category)
                    | dict(bbox=[x, y, 20, 20], area=400, iscrowd=0)
                    | dict(segmentation=[outline])
                )
        assert cv2.imwrite(str(root / 'images' / name), image)
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / file).write_text(json.dumps(content))


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    main(['own-data', 'pets', *words])


def read(stage: str) -> str:
    return Path(f'configs/pets/{stage}.py').read_text()


def load(stage: str) -> Config:
    return Config.fromfile(f'configs/pets/{stage}.py')


def check_style(files: list[Path], longest: int) -> None:
    """Check that a person could have written the files."""
    for file in files:
        text = file.read_text()
        assert not re.search(
            r'\b(if|for|lambda|import|def)\b|\$', text.split('\n', 1)[1]
        )
        assert str(Path.cwd()) not in text
        assert str(ROOT) not in text
        if file.stem != 'data':
            assert len(text.splitlines()) <= longest
    check = [sys.executable, '-m', 'ruff', 'format', '--check', '--isolated']
    style = 'format.quote-style="single"'
    subprocess.run([*check, '--config', style, *files], check=True)


def check_stages(stages: list[str]) -> None:
    """Check the files that each stage reads and leaves, and its data sets."""
    left: set[str] = set()
    for stage in stages:
        cfg = load(stage)
        hooks = cfg.default_hooks
        pseudo = hooks.get('pseudo_labels', {}).get('teacher', [])
        inputs = [pseudo] if isinstance(pseudo, str) else list(pseudo)
        inputs += [each for each in [cfg.load_from] if each]
        start = cfg.model.get('student', {}).get('init_cfg') or {}
        if start.get('checkpoint', '').startswith('work_dirs/pets/'):
            inputs.append(start.checkpoint)
        assert bool(inputs) == (stage in ('selftrain', 'distill', 'finetune'))
        assert set(inputs) <= left
        assert hooks.export.get('compare_with') in {None, *left}
        left.add(f'{cfg.work_dir}/{hooks.export.out}')
        train = cfg.train_dataloader.dataset
        for dataset in [train.labeled_dataset, train.get('unlabeled_dataset')]:
            if dataset is None:
                continue
            while 'dataset' in dataset:  # RepeatDataset
                dataset = dataset.dataset
            dataset = DATASETS.build({**dataset, 'pipeline': []})
            assert dataset.metainfo['classes'] == ('cat', "dog's friend")
        assert ('unlabeled_dataset' in train) == (stage in ('selftrain', 'distill'))
        for each in cfg.val_dataloader, cfg.test_dataloader:
            assert len(DATASETS.build({**each.dataset, 'pipeline': []})) == 4
        for each in cfg.val_evaluator, cfg.test_evaluator:
            assert len(json.loads(Path(each.ann_file).read_text())['images']) == 4
        # The report shows the last validation's predictions.
        assert cfg.val_evaluator.outfile_prefix == f'{cfg.work_dir}/validation'
        assert 'outfile_prefix' not in cfg.test_evaluator
        # It validates at the end, whose metrics the stage compares.
        length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
        assert cfg.train_cfg.get('val_begin', 1) <= length
        model = cfg.model.get('student', cfg.model)
        assert tuple(model.classes) == ('cat', "dog's friend")
