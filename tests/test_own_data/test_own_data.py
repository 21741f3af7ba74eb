"""Run `mmcast own-data` on images that nothing here has seen."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import mmdet
import numpy as np
import pytest
import torch
import yaml
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.runner import Runner

import mmcast  # noqa: F401
from mmcast.checkpoints import compare, save_plain
from mmcast.cli import main
from mmcast.console import make_console
from mmcast.datasets.splits import draw_order, read_list
from mmcast.engine.stages import mask_ap
from mmcast.errors import one_line
from mmcast.models.detectors.student import class_count
from mmcast.own_data.inspection import Inspection
from mmcast.own_data.prepare import draw, tell_missing
from mmcast.testing.stock_detectors import stock_detector

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder of a user, with data and without configs."""
    write_pets(tmp_path / 'data/pets', 'train.json', 0, 20, unlabelled=5)
    monkeypatch.chdir(tmp_path)
    # Lines are not broken, whatever terminal an earlier test left.
    wide = make_console(highlight=False, width=200, height=50)
    monkeypatch.setattr('mmcast.own_data.prepare.console', wide)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    main(['own-data', 'pets', *words])


def test_looking_writes_nothing(folder, monkeypatch, capsys):
    before = sorted(folder.rglob('*'))
    run(monkeypatch, *PETS, '--look')
    printed = capsys.readouterr().out
    assert re.search(r"cat: 20, dog's friend: 10", printed)
    assert re.search(r'classes without an instance\s*│\s*1: unicorn', printed)
    assert 'Nothing was written' in printed
    assert sorted(folder.rglob('*')) == before


def test_names_are_printed_as_they_are(folder, monkeypatch, capsys):
    """In `[...]` rich would see markup, and a byte may not be UTF-8."""
    data = folder / 'data/[raw]'
    write_pets(data, 'train.json', 0, 20, 5, names=('[cat]', '[/dog]', '[red]fox'))
    write_pets(data, 'val.json', 90, 1, names=('[cat]', '[/dog]', '[red]fox'))
    heic = os.fsencode(data / 'images') + b'/photo[1]\xff.heic'
    Path(os.fsdecode(heic)).write_bytes(b'x')
    words = '--coco data/[raw]/train.json --val data/[raw]/val.json --images'
    run(monkeypatch, *words.split(), 'data/[raw]/images', '--teacher', 'sam3')
    printed = capsys.readouterr().out
    assert re.search(r'^data/\[raw\]/train\.json', printed, re.MULTILINE)
    assert '[cat]: 20, [/dog]: 10' in printed
    assert '1: [red]fox' in printed
    assert r'1: photo[1]\udcff.heic' in printed
    assert 'val.json has no [/dog]: their AP will be unknown' in printed
    assert "--classes '[cat]' '[/dog]' --store" in printed


def test_what_stops_is_told_before_anything_is_written(folder, monkeypatch):
    (folder / 'data/pets/images/003.png').unlink()
    with pytest.raises(ValueError, match=r'images that are missing\. Nothing'):
        run(monkeypatch, *PETS)
    assert not (folder / 'configs').exists()
    assert not (folder / 'data/pets/splits').exists()


@pytest.mark.parametrize('gpu', [False, True])
def test_the_machine_chooses_the_size(folder, monkeypatch, capsys, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    run(monkeypatch, *PETS)
    size = 'medium' if gpu else 'small'
    assert f"own_data/{size}/supervised.py'" in read('supervised')
    assert f'size {size} (--size chooses another)' in capsys.readouterr().out


def read(stage: str) -> str:
    return Path(f'configs/pets/{stage}.py').read_text()


@pytest.mark.parametrize('size', SIZES)
def test_configs_a_person_would_have_written(folder, monkeypatch, capsys, size):
    run(monkeypatch, *PETS, '--size', size)
    files = sorted((folder / 'configs/pets').iterdir())
    assert [file.stem for file in files] == sorted([*STAGES[size], 'data'])
    check_style(files, 10)
    printed = capsys.readouterr().out
    for stage in STAGES[size]:
        assert f'configs/pets/{stage}.py' in printed
    seen = re.search(r'of 64x48 .* seen at (\d+)x(\d+) in testing', printed)
    val = DATASETS.build(load('supervised').val_dataloader.dataset)
    assert [int(side) for side in seen.groups()] == [*val[0]['inputs'].shape[:0:-1]]


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


def load(stage: str) -> Config:
    return Config.fromfile(f'configs/pets/{stage}.py')


@pytest.mark.parametrize('size', SIZES)
def test_each_stage_reads_what_the_one_before_leaves(folder, monkeypatch, size):
    """All files of a base's own data set are replaced."""
    run(monkeypatch, *PETS, '--size', size)
    check_stages(STAGES[size])
    if size == 'small':  # the supervised student goes on
        start = load('distill').model.student.init_cfg.checkpoint
        assert start == 'work_dirs/pets/supervised/student.pth'


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


@pytest.mark.parametrize('size', ['small', 'medium'])
def test_teacher_and_student_have_the_classes(folder, monkeypatch, size):
    run(monkeypatch, *PETS, '--size', size)
    for stage in 'adapt', 'supervised':
        assert class_count(MODELS.build(load(stage).model)) == 2


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
    run(monkeypatch, *PETS, '--fraction', '0.25')
    lists = folder / 'data/pets/splits'
    labeled, unlabeled = (read_list(lists / f'{n}labeled.txt') for n in ('', 'un'))
    val = json.loads((lists / 'val.json').read_text())
    validation = [image['file_name'] for image in val['images']]
    assert [len(each) for each in (labeled, unlabeled, validation)] == [4, 17, 4]
    assert len({*labeled, *unlabeled, *validation}) == 25
    assert all(int(name[:3]) < 20 for name in labeled + validation)
    # Again: the same. Other lists: refused.
    run(monkeypatch, *PETS, '--fraction', '0.25')
    with pytest.raises(FileExistsError, match='with --out, or remove it'):
        run(monkeypatch, *PETS)


def test_a_rare_class_is_labelled_before_it_validates(folder, capsys):
    names = [f'{i:03}.png' for i in range(20)]
    found = Inspection(classes=('cat', 'unicorn'), others=['more.png'])
    found.annotated = {name: {'cat'} for name in names}
    before = draw(found, set(), None, 0, with_validation=True)
    order, _ = draw_order(names, '0:val')
    assert before.validation == sorted(order[:4])
    rare = before.validation[0]
    found.annotated[rare] = {'cat', 'unicorn'}
    after = draw(found, set(), None, 0, with_validation=True)
    assert rare in after.labeled
    assert after.validation == sorted({*order[:5]} - {rare})
    tell_missing(found, after)
    assert capsys.readouterr().out == 'no validation image shows unicorn\n'
    tell_missing(found, draw(found, {rare}, None, 0, with_validation=False))
    assert capsys.readouterr().out == 'no labelled image shows unicorn\n'


def test_classes_without_a_labelled_image_are_named(folder, monkeypatch, capsys):
    """All images with a dog are for validation."""
    path = folder / 'data/pets/train.json'
    content = json.loads(path.read_text())
    content['images'] = content['images'][:8]
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] < 8]
    path.write_text(json.dumps(content))
    content['images'] = [i for i in content['images'] if i['id'] % 2]
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] % 2]
    (folder / 'data/pets/val.json').write_text(json.dumps(content))
    run(monkeypatch, *PETS, '--val', 'data/pets/val.json')
    assert "\nno labelled image shows dog's friend\n" in capsys.readouterr().out


def test_given_validation_images_are_not_trained_on(folder, monkeypatch):
    """They may be in a folder of their own, and have copies in the other one."""
    write_pets(folder / 'data/pets/more', 'val.json', 100, 3)
    source = folder / 'data/pets/more/images/100.png'
    (folder / 'data/pets/images/999.png').write_bytes(source.read_bytes())
    val = ['--val', 'data/pets/more/val.json', '--val-images', 'data/pets/more/images']
    run(monkeypatch, *PETS, *val)
    lists = folder / 'data/pets/splits'
    assert len(read_list(lists / 'labeled.txt')) == 20
    assert read_list(lists / 'unlabeled.txt') == [f'{i:03}.png' for i in range(20, 25)]
    cfg = load('distill')
    dataset = DATASETS.build({**cfg.val_dataloader.dataset, 'pipeline': []})
    assert [info['img_name'] for info in dataset] == ['100.png', '101.png', '102.png']
    assert cfg.val_evaluator.ann_file == 'data/pets/splits/val.json'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--fraction', '0.01'], 'needed to show every class: give a larger one'),
        (['--val', 'data/pets/none.json'], r"none\.json' does not exist"),
        (['--val', 'data/pets/train.json'], 'images are validation images, too: give'),
        (['--images', 'data/none'], "'data/none' does not exist"),
    ],
)
def test_errors_are_one_line(folder, monkeypatch, words, message):
    with pytest.raises((OSError, ValueError), match=message) as caught:
        run(monkeypatch, *PETS, *words)
    assert '\n' not in str(caught.value)


def test_all_images_annotated_needs_a_fraction(folder, monkeypatch):
    for i in range(20, 25):
        (folder / f'data/pets/images/{i:03}.png').unlink()
    with pytest.raises(ValueError, match=r'give --fraction 0\.1 to keep'):
        run(monkeypatch, *PETS)


def test_configs_of_a_checkout_stay(folder, monkeypatch):
    """Without ``configs/mmcast``, it becomes a link to the installed configs."""
    run(monkeypatch, *PETS)
    assert (folder / 'configs/mmcast').is_symlink()
    (folder / 'configs/mmcast').unlink()
    own = folder / 'configs/mmcast'
    own.mkdir()
    for name in '_base_', 'own_data', 'weights':
        (own / name).symlink_to(ROOT / 'configs/mmcast' / name)
    run(monkeypatch, *PETS)
    assert own.is_dir()
    assert not own.is_symlink()


def test_a_link_to_configs_that_are_gone_is_replaced(folder, monkeypatch):
    (folder / 'configs').mkdir()
    (folder / 'configs/mmcast').symlink_to('nowhere')
    run(monkeypatch, *PETS)
    assert (folder / 'configs/mmcast/_base_').is_dir()
    assert load('supervised').work_dir == 'work_dirs/pets/supervised'


def test_a_place_without_room_for_configs_is_told_first(folder, monkeypatch):
    (folder / 'configs').write_text('a file')
    with pytest.raises(OSError, match='or run the command in another folder') as caught:
        run(monkeypatch, *PETS)
    assert one_line(caught.value).startswith('cannot write in configs (')
    assert not (folder / 'data/pets/splits').exists()
    run(monkeypatch, *PETS, '--look')


MINE = """\
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
model = {model}
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
]
size = dict(type='Resize', scale=(64, 48), keep_ratio=True)
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
train = [size, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test = [*load, size, dict(type='PackDetInputs', meta_keys=keys)]
train_dataloader = dict(dataset={dataset})
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test))
optim_wrapper = dict(optimizer=dict(lr=0.02))
{more}
"""
PLAIN = 'dict(pipeline=[*load, *train])'
MIXED = """dict(
    _delete_=True,
    type='MultiImageMixDataset',
    dataset=dict(
        type='ConcatDataset',
        datasets=[dict(type='CocoDataset', ann_file='none.json', pipeline=load)],
    ),
    pipeline=[*train],
)"""


def write_mine(dataset: str = PLAIN, more: str = '') -> str:
    """Write the config of a user's own small Mask R-CNN."""
    model = stock_detector('mask_rcnn', 80).to_dict()
    text = MINE.format(model={'_delete_': True, **model}, dataset=dataset, more=more)
    Path('configs').mkdir(exist_ok=True)
    Path('configs/mine.py').write_text(text)
    return 'configs/mine.py'


EVALUATORS = """
val_evaluator = test_evaluator = [
    dict(type='CocoMetric', ann_file='none.json'),
    dict(type='DumpDetResults', out_file_path='none.pkl'),
]
"""


@pytest.mark.parametrize(
    ('dataset', 'more'),
    [
        (PLAIN, ''),
        (MIXED, "custom_imports = dict(imports=['json'], allow_failed_imports=False)"),
        (
            PLAIN,
            "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=50)",
        ),
    ],
)
def test_a_students_config_of_your_own(folder, monkeypatch, capsys, dataset, more):
    run(monkeypatch, *PETS, '--student', write_mine(dataset, more))
    check_style(sorted((folder / 'configs/pets').iterdir()), 15)
    check_stages(STAGES['small'])
    printed = capsys.readouterr().out
    assert re.search(r'of 64x48 .* at 64x48 in testing, and at 64x48 in tr', printed)
    cfg = load('distill')
    # Half the images are labelled: 20 of 20 + 5, of which 4 are for validation.
    assert not cfg.train_dataloader.batch_sampler
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert [len(part) for part in train.datasets] == [16, 5]
    item = train[0]
    assert item['inputs']['sup'].shape == (3, 48, 64)
    assert len(item['data_samples']['sup'].gt_instances.masks) in (1, 2)
    assert class_count(MODELS.build(cfg.model.student)) == 2
    assert ('json' in cfg.custom_imports.imports) == ('json' in more)
    assert load('finetune').optim_wrapper.optimizer.lr == 0.002
    refined = load('finetune').train_cfg
    assert (refined.get('max_iters') or refined.max_epochs) == (
        5 if 'iters' in more else 1
    )
    length = cfg.train_cfg.get('max_iters', 12 * -(-21 // 2))
    assert re.search(rf'distill\.py\s*│\s*{length} │\s*2 │', printed)


def test_a_stock_student_that_sees_few_labels(folder, monkeypatch, capsys):
    """In an epoch it sees as many labelled images as there are unlabelled ones."""
    write_pets(folder / 'data/pets', 'train.json', 0, 20, unlabelled=40)
    words = ['--fraction', '0.25', '--student']
    run(monkeypatch, *PETS, *words, 'mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py')
    cfg = load('supervised')
    assert len(read_list('data/pets/splits/labeled.txt')) == 4
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(train) == 4 * 13  # 40 + 12 unlabelled ones
    refined = load('finetune')
    assert refined.train_dataloader.dataset.labeled_dataset.times == 13
    assert refined.train_cfg.max_epochs == 30  # of 300
    # Its 60 iterations are fewer than the warm-up has, and have no epoch 280.
    assert [each.type for each in cfg.param_scheduler] == [
        *('LinearLR', 'CosineAnnealingLR')
    ]
    assert [each.type for each in refined.param_scheduler] == ['PolyLR']
    assert refined.custom_hooks[0] == cfg.custom_hooks[0]
    assert cfg.custom_hooks[1].switch_epoch == 280
    assert refined.custom_hooks[1] == dict(cfg.custom_hooks[1], switch_epoch=0)
    printed = capsys.readouterr().out
    assert re.search(r'supervised\.py\s*│\s*600 │\s*32 │', printed)
    assert class_count(MODELS.build(cfg.model)) == 2


SHORT = {
    'train_cfg.max_epochs': 1,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
}


def test_a_student_and_a_teacher_of_your_own_train(folder, monkeypatch):
    """The teacher is the trained student; then no stage trains one."""
    mine = write_mine(more=EVALUATORS)
    run(monkeypatch, *PETS, '--student', mine)

    def train(stage: str, **more) -> Path:
        cfg = load(stage)
        cfg.merge_from_dict({**SHORT, **more})
        Runner.from_cfg(cfg).train()
        return Path(cfg.work_dir)

    teacher = train('supervised') / 'student.pth'
    assert mask_ap(teacher) is not None
    teacher = teacher.rename('teacher.pth')
    run(monkeypatch, *PETS, '--student', mine, '--teacher', mine, str(teacher))
    files = sorted((folder / 'configs/pets').iterdir())
    names = [file.stem for file in files]
    assert names == ['data', 'distill', 'finetune', 'supervised', 'teacher']
    check_style(files, 15)
    # An untrained detector is sure of nothing.
    low = {'train_dataloader.dataset.pseudo_labels.score_thr': 0.05}
    out = train('distill', **low)
    assert len(list(Path('work_dirs/pets/teacher/pseudo_labels').glob('*.json'))) >= 5
    log = next(out.glob('*/*.log')).read_text()
    assert 'Pseudo-labels of 5 images (' in log
    assert 'student.pth has mask AP' in log
    assert (train('finetune') / 'student.pth').is_file()
    cfg = load('teacher')
    cfg.merge_from_dict(SHORT | dict(work_dir='tested', load_from=str(teacher)))
    cfg.test_dataloader = cfg.val_dataloader
    assert 'coco/segm_mAP' in Runner.from_cfg(cfg).test()


def test_a_teacher_of_your_own_for_a_student_of_ours(folder, monkeypatch):
    mine = write_mine()
    classes = ['cat', "dog's friend"]
    save_plain({}, dict(dataset_meta=dict(CLASSES=classes)), Path('teacher.pth'))
    run(monkeypatch, *PETS, '--teacher', mine, 'teacher.pth')
    hook = load('distill').default_hooks.pseudo_labels
    assert hook.type == 'PseudoLabelHook'
    assert (hook.teacher, hook.config) == ('teacher.pth', 'configs/pets/teacher.py')
    store = load('distill').train_dataloader.dataset.pseudo_labels.store
    assert store == 'work_dirs/pets/teacher/pseudo_labels'
    assert class_count(MODELS.build(load('teacher').model)) == 2


def test_sam3_is_a_teacher_that_nothing_trains(folder, monkeypatch, capsys):
    run(monkeypatch, *PETS, '--teacher', 'sam3')
    files = sorted((folder / 'configs/pets').iterdir())
    names = [file.stem for file in files]
    assert names == ['data', 'distill', 'finetune', 'supervised']
    check_style(files, 15)
    store = 'work_dirs/pets/teacher/pseudo_labels'
    hook = load('distill').default_hooks.pseudo_labels
    assert (hook.type, hook.teacher) == ('PseudoLabelHook', store)
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'mmcast label --teacher sam3 --images ' in printed
    assert f"""--classes cat 'dog'"'"'s friend' --store {store}""" in printed
    with pytest.raises(ValueError, match='give a config and a checkpoint, or sam3'):
        run(monkeypatch, *PETS, '--teacher', 'sam2')


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (["dog's friend", 'cat'], 'has 2 classes .* 2 .*; their order differs'),
        (['cat', 'bird'], "only one has bird, dog's friend: train it on these"),
        (None, 'keeps no class names'),
    ],
)
def test_a_teacher_must_know_the_classes(folder, monkeypatch, classes, message):
    meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
    save_plain({}, meta, Path('teacher.pth'))
    with pytest.raises((OSError, ValueError), match=message) as caught:
        run(monkeypatch, *PETS, '--teacher', write_mine(), 'teacher.pth')
    assert '\n' not in str(caught.value)
    assert not (folder / 'configs/pets').exists()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, "config 'configs/x.py' does not exist"),
        ("model = dict(type='MaskRCNN')", r'has no train_dataloader\.dataset'),
        ("_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'", 'predicts boxes'),
        ("_base_ = './mine.py'\nlabeled = 1", "has the variable 'labeled'"),
        ("_base_ = './none.py'", 'cannot be read'),
        ("_base_ = './mine.py'\nmodel = dict(type='Mine')", 'no detector Mine is reg'),
    ],
)
def test_a_students_config_that_cannot_work(folder, monkeypatch, text, message):
    write_mine()
    if text is not None:
        Path('configs/x.py').write_text(text)
    with pytest.raises((OSError, ValueError), match=message) as caught:
        run(monkeypatch, *PETS, '--student', 'configs/x.py')
    assert '\n' not in str(caught.value)
    assert not (folder / 'data/pets/splits').exists()


@pytest.mark.parametrize('student', [None, PLAIN, MIXED])
def test_a_flip_swaps_left_and_right(folder, monkeypatch, capsys, student):
    """The left paw is dark, the right one bright; a mirrored one has the other name."""
    names = ('left_paw', 'right_paw')
    write_pets(folder / 'data/pets', 'train.json', 0, 20, unlabelled=5, names=names)
    own = ['--student', write_mine(student)] if student else []
    run(monkeypatch, *PETS, *own)
    printed = capsys.readouterr().out
    assert 'swaps the labels of left_paw and right_paw' in printed
    assert "mirrored=[('left_paw', 'right_paw')]" in read('data')
    wanted = {(False, 0, 0), (False, 1, 255), (True, 1, 0), (True, 0, 255)}
    train = DATASETS.build(load('distill').train_dataloader.dataset)
    assert colours(train) == wanted
    if student == PLAIN:
        # As PipelineSwitchHook does.
        mine = Config.fromfile('configs/mine.py')
        train.pipeline = Compose(mine.train_dataloader.dataset.pipeline)
        assert colours(train) == wanted


def test_left_without_right_is_never_flipped(folder, monkeypatch, capsys):
    names = ('left_paw', 'tail')
    write_pets(folder / 'data/pets', 'train.json', 0, 20, unlabelled=5, names=names)
    run(monkeypatch, *PETS)
    printed = capsys.readouterr().out
    assert re.search(r'left or right\s*│ 1: left_paw\s*│ images are not flip', printed)
    assert '# Classes say left or right, without pairs: images are not f' in read(
        'data'
    )
    train = DATASETS.build(load('supervised').train_dataloader.dataset)
    assert colours(train) == {(False, 0, 0), (False, 1, 255)}


def colours(train: Any) -> set[tuple[bool, int, int]]:
    """Return (is mirrored, label, rounded colour) of squares; colours name classes."""
    found = set()
    for seed in range(8):
        for index in range(4):
            np.random.seed(seed)
            item = train[index]
            sample = item['data_samples']
            image = item['inputs']
            if isinstance(sample, dict):
                sample, image = sample['sup'], image['sup']
            for mask, label in zip(
                sample.gt_instances.masks.masks, sample.gt_instances.labels, strict=True
            ):
                if mask.sum() < 20:
                    continue
                value = image[:, torch.from_numpy(mask).bool()].float().mean()
                colour = 255 if value > 150 else 0
                found.add((bool(sample.flip), int(label), colour))
    return found


def test_more_objects_than_a_detector_finds(folder, monkeypatch, capsys):
    """The limits rise in all stages, and AP's own one is named."""
    path = Path('data/pets/train.json')
    content = json.loads(path.read_text())
    (square,) = [a for a in content['annotations'] if a['image_id'] == 0]
    first = len(content['annotations'])
    content['annotations'] += [
        {**square, 'id': first + i, 'bbox': [0, 0, 20, 20 + i]} for i in range(119)
    ]
    path.write_text(json.dumps(content))
    run(monkeypatch, *PETS, '--size', 'medium', '--student', write_mine())
    printed = capsys.readouterr().out
    assert re.search(r'fullest image\s*│ 120: 000.png\s*│ AP counts the 100', printed)
    assert 'fullest image has 120 objects; the student finds at most 200' in printed
    adapt = load('adapt')
    assert adapt.model.test_cfg.max_per_image == 200
    assert adapt.model.panoptic_head.num_queries == 200
    assert 'panoptic_head.query_feat.' in adapt.default_hooks.preflight.may_be_new
    model = MODELS.build({**adapt.model, 'init_cfg': None})
    assert model.panoptic_head.query_feat.weight.shape[0] == 200
    test_cfg = load('supervised').model.test_cfg
    assert (test_cfg.rpn.max_per_img, test_cfg.rcnn.max_per_img) == (200, 200)
