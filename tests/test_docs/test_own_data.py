"""Follow docs/own_data.md: its layout, commands and stages."""

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

import mmcast  # noqa: F401
from mmcast.cli import main
from mmcast.engine.stages import mask_ap
from mmcast.report.data import find

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / 'docs/own_data.md').read_text()
WRITE, TRAIN, TEST, OWN = re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)
STAGES = re.search(r'for stage in ([\w ]+); do', TRAIN)[1].split()

# Makes two iterations fast on a CPU.
SMALL = {
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.weak_view.0.scale': (128, 128),
    'val_dataloader.dataset.pipeline.1.scale': (128, 128),
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'default_hooks.logger.interval': 1,
}


def write_images(root: Path, count: int, unlabelled: int) -> None:
    """Write images with a cat (dark square) and a dog (bright square) each."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(count + unlabelled):
        image = rng.integers(80, 120, (48, 64, 3), np.uint8)
        name = f'{"annotated" if i < count else "more"}/{i:03}.jpg'
        for category in (1, 2):
            x, y = int(rng.integers(2, 10)) + 30 * (category - 1), int(rng.integers(25))
            image[y : y + 20, x : x + 20] = 255 * (category - 1)
            annotations.append(
                {
                    'id': len(annotations),
                    'image_id': i,
                    'category_id': category,
                    'bbox': [x, y, 20, 20],
                    'area': 400,
                    'iscrowd': 0,
                    'segmentation': [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]],
                }
            )
        images.append({'id': i, 'file_name': name, 'height': 48, 'width': 64})
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)
    content = dict(
        images=images[:count],
        categories=[{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}],
        annotations=annotations[: 2 * count],
    )
    (root / 'train.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a user's checkout and follow section 1 of the page in it."""
    folder = tmp_path_factory.mktemp('checkout')
    (folder / 'configs').mkdir()
    for part in ('configs/mmcast', 'tools'):
        (folder / part).symlink_to(REPOSITORY / part)
    write_images(folder / 'data/pets', 10, 4)
    command, *words = shlex.split(WRITE)
    assert command == 'mmcast'
    with pytest.MonkeyPatch.context() as patch:
        # Run in this process: a new one needs many seconds for its imports.
        patch.chdir(folder)
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        main(words)
    return folder


def test_files_are_where_the_page_says(folder: Path) -> None:
    pattern = r'`(data/pets/splits/)\{(\w+),(\w+)\}(\.txt)`'
    start, *names, end = re.search(pattern, PAGE).groups()
    for name in names:
        assert (folder / f'{start}{name}{end}').is_file()
    assert '`data/pets/splits/val.json`' in PAGE
    assert (folder / 'data/pets/splits/val.json').is_file()
    assert 'configs/pets/$stage.py' in TRAIN
    names = {path.stem for path in (folder / 'configs/pets').iterdir()}
    assert names == {*STAGES, 'data'}
    # The default of this machine, see the fixture.
    assert 'own_data/small/' in (folder / 'configs/pets/supervised.py').read_text()


def test_all_stages_of_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train each for a few iterations, in order; each measures what it leaves."""
    monkeypatch.chdir(folder)
    for stage in STAGES:
        cfg = Config.fromfile(f'configs/pets/{stage}.py')
        # Labels of a teacher with 20 iterations have low scores.
        pseudo = cfg.train_dataloader.dataset.get('pseudo_labels')
        more = {'train_dataloader.dataset.pseudo_labels.score_thr': 0.05}
        cfg.merge_from_dict(SMALL | (more if pseudo else {}))
        cfg.train_cfg.max_iters = 20 if stage == 'adapt' else 2
        runner = Runner.from_cfg(cfg)
        runner.train()
        exported = Path(cfg.work_dir) / cfg.default_hooks.export.out
        assert exported.is_file()
        assert mask_ap(exported) is not None
        log = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
        (line,) = [line for line in log.splitlines() if 'has mask AP' in line]
        assert (' against ' in line) == (stage not in ('supervised', 'adapt'))
        if stage == 'distill':
            # It chooses if there are two.
            chosen = 'The teacher is work_dirs/pets/' in log
            assert chosen == ('selftrain' in STAGES)
            assert 'which training uses (cat ' in log
            assert 'Pseudo-labels of 4 images (' in log

    word, command, _, config, option, checkpoint = shlex.split(TEST)
    assert (word, command, option) == ('mim', 'test', '--checkpoint')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(SMALL | {'load_from': checkpoint, 'work_dir': 'tested'})
    cfg.test_dataloader = cfg.val_dataloader
    runner = Runner.from_cfg(cfg)
    found = 100 * runner.test()['coco/segm_mAP']
    assert found == pytest.approx(mask_ap(checkpoint), abs=0.01)

    # What the report finds.
    report = find([Path('work_dirs/pets')])
    names = {stage.name for stage in report.stages}
    assert names == {f'pets/{name}' for name in STAGES}
    assert 'pets/adapt' in [labels.name for labels in report.labels]
    assert all(labels.config for labels in report.labels)


def test_options_of_the_page_exist(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    cfg = Config.fromfile('configs/pets/distill.py')
    ours, own = PAGE.split('## Your own detectors')
    options = re.findall(r'--cfg-options ([\w.]+)=', ours)
    assert len(options) == 2
    assert '--cfg-options train_cfg.max_epochs=' in own
    for option in options:
        part = cfg
        for key in option.split('.'):
            assert key in part, option
            part = part[key]


def test_options_of_the_command_exist(capsys) -> None:
    """Those that the page names are in the command's help, with as many arguments."""
    with pytest.raises(SystemExit):
        main(['own-data', '--help'])
    described = capsys.readouterr().out
    first, second = OWN.strip().split('\n')
    assert re.search(r' --student \S+$', first)
    assert '--student CONFIG' in described
    assert re.search(r' --teacher \S+ \S+$', second)
    assert '--teacher CONFIG [CHECKPOINT ...]' in described
    for option in re.findall(
        r'`(--(?:look|val|val-images|seed|size|fraction|out|link-root))\b', PAGE
    ):
        assert option in described
