"""Run `mmcast own-data` on images that nothing here has seen."""

import json
import os
import re
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
import torch
import yaml
from mmdet.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.config import Config
from pets import (
    PETS,
    ROOT,
    SIZES,
    STAGES,
    check_stages,
    check_style,
    load,
    read,
    run,
    write_pets,
)

import mmcast  # noqa: F401
from mmcast.checkpoints import compare
from mmcast.datasets.splits import draw_order, read_list
from mmcast.errors import one_line
from mmcast.models.detectors.student import class_count
from mmcast.own_data import seen_sizes
from mmcast.own_data.configs import _names
from mmcast.own_data.draw import draw
from mmcast.own_data.inspection import Inspection
from mmcast.own_data.prepare import tell_missing


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


@pytest.mark.parametrize('size', SIZES)
def test_each_stage_reads_what_the_one_before_leaves(folder, monkeypatch, size):
    """All files of a base's own data set are replaced."""
    run(monkeypatch, *PETS, '--size', size)
    check_stages(STAGES[size])
    if size == 'small':  # the supervised student goes on
        start = load('distill').model.student.init_cfg.checkpoint
        assert start == 'work_dirs/pets/supervised/student.pth'


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
    with pytest.raises(FileExistsError, match='with --out, or move it elsewhere'):
        run(monkeypatch, *PETS)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('supervised', "# My work.\n_base_ = 'mmdet::{}'\n"),
        ('distill', "_base_ = 'mmdet::{}'\nwork_dir = 'work_dirs/pets/distill'\n"),
        ('selftrain', '# My other work.\n'),
        ('data', "class_names = ('cat',)\n"),
    ],
)
def test_configs_of_the_user_stay(folder, monkeypatch, file, text):
    """A stage of his own is not overwritten, nor deleted if no stage has its name."""
    path = folder / f'configs/pets/{file}.py'
    path.parent.mkdir(parents=True)
    path.write_text(text.format('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'))
    before = contents(folder)
    with pytest.raises(FileExistsError, match=rf"pets/{file}\.py' was not .* name"):
        run(monkeypatch, *PETS)
    assert contents(folder) == before


def test_configs_of_an_earlier_command_are_written_again(folder, monkeypatch):
    """Those of the first version, too, which had `work_dir` below."""
    run(monkeypatch, *PETS, '--size', 'medium')
    path = folder / 'configs/pets/selftrain.py'
    base, work_dir, *rest = path.read_text().splitlines(keepends=True)
    assert base.startswith('_base_ = [')
    assert work_dir.startswith('work_dir = ')
    path.write_text(''.join([base, *rest, work_dir]))
    run(monkeypatch, *PETS, '--size', 'small')
    assert not path.exists()


@pytest.mark.parametrize('file', ['annotations', 'val'])
def test_lists_do_not_go_where_a_given_file_is(folder, monkeypatch, file):
    pets = folder / 'data/pets'
    (pets / 'train.json').rename(pets / 'annotations.json')
    write_pets(pets, 'val.json', 100, 3)
    words = ['--coco', 'data/pets/annotations.json', '--images', 'data/pets/images']
    if file == 'val':
        (pets / 'annotations.json').rename(pets / 'train.json')
        words[1] = 'data/pets/train.json'
        words += ['--val', 'data/pets/val.json']
    before = contents(folder)
    with pytest.raises(FileExistsError, match=rf'{file}\.json.* folder with --out$'):
        run(monkeypatch, *words, '--out', 'data/pets')
    assert contents(folder) == before


@pytest.mark.parametrize(
    'step',
    [
        dict(type='Resize', scale=32, keep_ratio=True),
        dict(type='Resize', scale=(40, 24), keep_ratio=True),
        dict(type='Resize', scale=(40, 24)),
        dict(type='Resize', scale=32, keep_ratio=False),
        dict(type='RandomChoiceResize', scales=[(32, 32), (48, 40)]),
        dict(type='ResizeShortestEdge', scale=24, keep_ratio=True),
        dict(type='ResizeShortestEdge', scale=24, max_size=28, keep_ratio=True),
        dict(type='RandomChoiceResize', scales=[(32, 32), (48, 16)], keep_ratio=True),
        dict(
            type='RandomChoiceResize',
            scales=[12, 24, 36],
            resize_type='ResizeShortestEdge',
            keep_ratio=True,
        ),
    ],
)
def test_printed_sizes_are_those_that_the_transform_makes(step):
    transform = TRANSFORMS.build(step)
    made = set()
    for seed in range(20):
        np.random.seed(seed)
        made.add(transform(dict(img=np.zeros((48, 64, 3), np.uint8)))['img'].shape[:2])
    loader = dict(dataset=dict(pipeline=[step]))
    cfg = Config(dict(val_dataloader=loader, train_dataloader=loader))
    _, train = seen_sizes(cfg, (64, 48))
    rounded = [tuple(round(side) for side in each[::-1]) for each in train]
    assert rounded == [min(made), max(made)]


@pytest.mark.parametrize(
    'names',
    [
        ('a healthy leaf, ' * 9,),
        ('n' * 200,),
        ('a (b) ' * 20, 'c'),
        tuple(f'class {i}' for i in range(60)),
    ],
)
def test_long_names_of_classes_are_python(names):
    text = _names(names)
    assert Config.fromstring(text, '.py').class_names == names


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
        (['--val', 'data/pets/none.json'], r"none\.json' is no file: give"),
        (['--coco', 'data/pets'], "--coco 'data/pets' is no file: give a COCO JSON"),
        (['--val', 'data/pets/train.json'], 'images are validation images, too: give'),
        (['--images', 'data/none'], "'data/none' is no folder: correct it"),
        (['--images', 'data/pets/train.json'], r"train\.json' is no folder: correct"),
    ],
)
def test_errors_are_one_line(folder, monkeypatch, words, message):
    with pytest.raises((OSError, ValueError), match=message) as caught:
        run(monkeypatch, *PETS, *words)
    assert '\n' not in str(caught.value)


def test_validation_without_an_object_of_the_classes(folder, monkeypatch):
    """Else each stage would end with an AP that is unknown."""
    write_pets(folder / 'data/pets', 'val.json', 100, 3)
    path = folder / 'data/pets/val.json'
    content = json.loads(path.read_text())
    content['categories'].append(dict(id=99, name='fish'))
    for each in content['annotations']:
        each['category_id'] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'nothing could be evaluated \(it has fish\)'):
        run(monkeypatch, *PETS, '--val', 'data/pets/val.json')


def test_validation_images_of_the_same_names_need_their_folder(folder, monkeypatch):
    write_pets(folder / 'data/pets/more', 'val.json', 0, 9)
    path = folder / 'data/pets/more/val.json'
    content = json.loads(path.read_text())
    for each in content['annotations']:
        each['segmentation'] = [[1, 2, 21, 2, 21, 12, 1, 12]]
        each['bbox'] = [1, 2, 20, 10]
    path.write_text(json.dumps(content))
    val = ['--val', 'data/pets/more/val.json']
    with pytest.raises(ValueError, match='9 images have other objects in'):
        run(monkeypatch, *PETS, *val)
    run(monkeypatch, *PETS, *val, '--val-images', 'data/pets/more/images')


def test_other_images_of_the_validation_folder_do_not_count(folder, monkeypatch):
    write_pets(folder / 'more', 'val.json', 100, 3)
    deep = np.full((40, 40, 3), 4000, np.uint16)
    assert cv2.imwrite(str(folder / 'more/images/deep.png'), deep)
    val = ['--val', 'more/val.json', '--val-images', 'more/images']
    run(monkeypatch, *PETS, *val)


def test_versions_of_an_image_do_not_train_and_validate(folder, monkeypatch, capsys):
    """Roboflow writes several, NAME.rf.HASH.jpg."""
    path = folder / 'data/pets/train.json'
    content = json.loads(path.read_text())
    for index, image in enumerate(content['images']):
        name = f'{index // 3}.rf.{index % 3}.png'
        (folder / 'data/pets/images' / image['file_name']).rename(
            folder / 'data/pets/images' / name
        )
        image['file_name'] = name
    path.write_text(json.dumps(content))
    run(monkeypatch, *PETS)
    lists = folder / 'data/pets/splits'
    labeled = read_list(lists / 'labeled.txt')
    unlabeled = read_list(lists / 'unlabeled.txt')
    val = [
        i['file_name'] for i in json.loads((lists / 'val.json').read_text())['images']
    ]
    assert val
    validates = {name.partition('.')[0] for name in val}
    assert not validates & {n.partition('.')[0] for n in (*labeled, *unlabeled)}
    left = 25 - len(labeled) - len(unlabeled) - len(val)
    assert left == 2 * len(val)
    assert f"{left} of Roboflow's versions of validation" in capsys.readouterr().out


def test_a_tilde_in_an_option_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder / 'home'))
    (folder / 'home').mkdir()
    run(monkeypatch, *PETS, '--out=~/lists')
    assert (folder / 'home/lists/labeled.txt').is_file()
    assert not (folder / '~').exists()


def test_all_lists_of_an_earlier_call_are_named(folder, monkeypatch):
    """So that they can be moved at once."""
    run(monkeypatch, *PETS)
    path = folder / 'data/pets/train.json'
    content = json.loads(path.read_text())
    content['annotations'] = content['annotations'][:-9]
    path.write_text(json.dumps(content))
    names = 'labeled.txt', 'unlabeled.txt', 'val.json', 'annotations.json'
    with pytest.raises(FileExistsError) as caught:
        run(monkeypatch, *PETS)
    assert all(f'splits/{name}' in str(caught.value) for name in names)


def test_unreadable_images_are_no_missing_labels(folder, monkeypatch):
    for image in json.loads((folder / 'data/pets/train.json').read_text())['images']:
        (folder / 'data/pets/images' / image['file_name']).write_bytes(b'x')
    with pytest.raises(ValueError, match='all images with an object are left out'):
        run(monkeypatch, *PETS)


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


@pytest.mark.parametrize('folder_is_there', [True, False])
def test_other_configs_in_the_place_of_ours_are_told_first(
    folder, monkeypatch, folder_is_there
):
    """A git checkout without links leaves a file there."""
    place = Path('configs/mmcast')
    place.mkdir(parents=True) if folder_is_there else Path('configs').mkdir()
    if not folder_is_there:
        place.write_text('../elsewhere')
    with pytest.raises(FileExistsError, match='has no configs of mmcast: move it'):
        run(monkeypatch, *PETS)
    assert not (folder / 'data/pets/splits').exists()


def test_a_place_without_room_for_configs_is_told_first(folder, monkeypatch):
    (folder / 'configs').write_text('a file')
    with pytest.raises(OSError, match='or run the command in another folder') as caught:
        run(monkeypatch, *PETS)
    assert one_line(caught.value).startswith('cannot write in configs/pets (')
    assert not (folder / 'data/pets/splits').exists()
    run(monkeypatch, *PETS, '--look')
