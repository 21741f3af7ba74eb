"""Run tools/misc/own_data.py on images that nothing here has seen."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
import yaml
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

import mmcast  # noqa: F401
from mmcast.checkpoints import compare
from mmcast.datasets.splits import read_list

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/misc/own_data.py'
STAGES = ('supervised', 'adapt', 'selftrain', 'distill', 'finetune')
PETS = ['--coco', 'data/pets/train.json', '--images', 'data/pets/images']


def write_pets(
    root: Path, file: str, first: int, count: int, unlabelled: int = 0
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
    names = 'cat', "dog's friend", 'unicorn'
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / file).write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder of a user, with data and without configs."""
    write_pets(tmp_path / 'data/pets', 'train.json', 0, 20, unlabelled=5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COLUMNS', '200')
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, 'argv', [str(TOOL), 'pets', *words])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_looking_writes_nothing(folder, monkeypatch, capsys):
    before = sorted(folder.rglob('*'))
    run(monkeypatch, *PETS)
    printed = capsys.readouterr().out
    assert re.search(r"cat: 20, dog's friend: 10", printed)
    assert re.search(r'classes without an instance\s*│\s*1: unicorn', printed)
    assert 'Nothing was written' in printed
    assert sorted(folder.rglob('*')) == before


def test_what_stops_is_told_before_anything_is_written(folder, monkeypatch):
    (folder / 'data/pets/images/003.png').unlink()
    with pytest.raises(SystemExit, match=r'images that are missing\. Nothing'):
        run(monkeypatch, *PETS, '--size', 'tiny')
    assert not (folder / 'configs').exists()
    assert not (folder / 'data/pets/splits').exists()


@pytest.mark.parametrize('size', ['full', 'medium', 'tiny'])
def test_configs_a_person_would_have_written(folder, monkeypatch, capsys, size):
    run(monkeypatch, *PETS, '--size', size)
    files = sorted((folder / 'configs/pets').iterdir())
    assert [file.stem for file in files] == sorted((*STAGES, 'data'))
    for file in files:
        text = file.read_text()
        assert not re.search(
            r'\b(if|for|lambda|import|def)\b|\$', text.split('\n', 1)[1]
        )
        assert str(folder) not in text
        assert str(ROOT) not in text
        if file.stem != 'data':
            assert len(text.splitlines()) <= 10
    check = [sys.executable, '-m', 'ruff', 'format', '--check', '--isolated']
    style = 'format.quote-style="single"'
    subprocess.run([*check, '--config', style, *files], check=True)
    printed = capsys.readouterr().out
    for stage in STAGES:
        assert f'configs/pets/{stage}.py' in printed
    seen = re.search(r'of 64x48 .* seen at (\S+) in testing', printed)
    assert seen
    assert seen[1] == {'tiny': '192x144'}.get(size, '840x630')


def load(stage: str) -> Config:
    return Config.fromfile(f'configs/pets/{stage}.py')


@pytest.mark.parametrize('size', ['full', 'medium', 'tiny'])
def test_each_stage_reads_what_the_one_before_leaves(folder, monkeypatch, size):
    """All files of a base's own data set are replaced."""
    run(monkeypatch, *PETS, '--size', size)
    left: set[str] = set()
    for stage in STAGES:
        cfg = load(stage)
        hooks = cfg.default_hooks
        pseudo = hooks.get('pseudo_labels', {}).get('teacher', [])
        inputs = [pseudo] if isinstance(pseudo, str) else list(pseudo)
        inputs += [each for each in [cfg.load_from] if each]
        assert bool(inputs) == (stage in ('selftrain', 'distill', 'finetune'))
        assert set(inputs) <= left
        assert hooks.export.get('compare_with') in {None, *left}
        left.add(f'{cfg.work_dir}/{hooks.export.out}')
        train = cfg.train_dataloader.dataset
        for dataset in [train.labeled_dataset, train.get('unlabeled_dataset')]:
            if dataset is None:
                continue
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
        assert cfg.train_cfg.get('val_begin', 1) <= cfg.train_cfg.max_iters
        model = cfg.model.get('student', cfg.model)
        assert tuple(model.classes) == ('cat', "dog's friend")


@pytest.mark.parametrize('size', ['medium', 'tiny'])
def test_teacher_and_student_have_the_classes(folder, monkeypatch, size):
    run(monkeypatch, *PETS, '--size', size)
    for stage in 'adapt', 'supervised':
        model = MODELS.build(load(stage).model)
        assert model.num_classes == 2
        assert model.panoptic_head.cls_embed.out_features == 3


def test_mediums_teacher_is_that_of_the_zoo():
    """Every weight of the published network has our name and shape."""
    folder = Path(mmdet.__file__).parent / '.mim/configs/mask2former'
    ours = Config.fromfile(
        ROOT / 'configs/mmcast/_base_/models/teacher_mask2former_r50.py'
    )
    (entry,) = [
        each
        for each in yaml.safe_load((folder / 'metafile.yml').read_text())['Models']
        if each['Name'] == 'mask2former_r50_8xb2-lsj-50e_coco'
    ]
    assert Path(ours.weights).name == Path(entry['Weights']).name
    assert entry['Name'] in ours.made_by[ours.weights]
    zoo = Config.fromfile(folder / f'{entry["Name"]}.py').model
    zoo.backbone.init_cfg = None
    model = {**ours.model, 'num_classes': 80, 'pixel_contrast': None}
    found, wanted = (MODELS.build(each).state_dict() for each in (zoo, model))
    assert compare(found, wanted, exact=True) is None


def test_lists_are_a_split(folder, monkeypatch):
    run(monkeypatch, *PETS, '--size', 'tiny', '--fraction', '0.25')
    lists = folder / 'data/pets/splits'
    labeled, unlabeled = (read_list(lists / f'{n}labeled.txt') for n in ('', 'un'))
    val = json.loads((lists / 'val.json').read_text())
    validation = [image['file_name'] for image in val['images']]
    assert [len(each) for each in (labeled, unlabeled, validation)] == [4, 17, 4]
    assert len({*labeled, *unlabeled, *validation}) == 25
    assert all(int(name[:3]) < 20 for name in labeled + validation)
    # Again: the same. Other lists: refused.
    run(monkeypatch, *PETS, '--size', 'tiny', '--fraction', '0.25')
    with pytest.raises(SystemExit, match='holds another split'):
        run(monkeypatch, *PETS, '--size', 'tiny')


def test_given_validation_images_are_not_trained_on(folder, monkeypatch):
    """They may be in a folder of their own, and have copies in the other one."""
    write_pets(folder / 'data/pets/more', 'val.json', 100, 3)
    source = folder / 'data/pets/more/images/100.png'
    (folder / 'data/pets/images/999.png').write_bytes(source.read_bytes())
    val = ['--val', 'data/pets/more/val.json', '--val-images', 'data/pets/more/images']
    run(monkeypatch, *PETS, '--size', 'tiny', *val)
    lists = folder / 'data/pets/splits'
    assert len(read_list(lists / 'labeled.txt')) == 20
    assert read_list(lists / 'unlabeled.txt') == [f'{i:03}.png' for i in range(20, 25)]
    cfg = load('distill')
    dataset = DATASETS.build({**cfg.val_dataloader.dataset, 'pipeline': []})
    assert [info['img_name'] for info in dataset] == ['100.png', '101.png', '102.png']
    assert cfg.val_evaluator.ann_file == 'data/pets/more/val.json'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--fraction', '0.01'], 'needed to show every class: give a larger one'),
        (['--val', 'data/pets/none.json'], r"none\.json' does not exist"),
        (['--images', 'data/none'], "'data/none' does not exist"),
    ],
)
def test_errors_are_one_line(folder, monkeypatch, words, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}') as caught:
        run(monkeypatch, *PETS, '--size', 'tiny', *words)
    assert '\n' not in str(caught.value)


def test_all_images_annotated_needs_a_fraction(folder, monkeypatch):
    for i in range(20, 25):
        (folder / f'data/pets/images/{i:03}.png').unlink()
    with pytest.raises(SystemExit, match=r'give --fraction 0\.1 to keep'):
        run(monkeypatch, *PETS, '--size', 'tiny')


def test_configs_of_a_checkout_stay(folder, monkeypatch):
    """Without ``configs/mmcast``, it becomes a link to the installed configs."""
    run(monkeypatch, *PETS, '--size', 'tiny')
    assert (folder / 'configs/mmcast').is_symlink()
    (folder / 'configs/mmcast').unlink()
    own = folder / 'configs/mmcast'
    own.mkdir()
    for name in '_base_', 'own_data', 'weights':
        (own / name).symlink_to(ROOT / 'configs/mmcast' / name)
    for name in STAGES:
        for size in 'full', 'medium', 'tiny':
            assert (own / f'own_data/{size}/{name}.py').is_file()
    run(monkeypatch, *PETS, '--size', 'tiny')
    assert own.is_dir()
    assert not own.is_symlink()
