"""Follow docs/your_detector.md in an empty folder: its files, through `mim train`."""

import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmcast.checkpoints import read_checkpoint
from mmcast.testing import stock_detector
from mmcast.testing.stock_detectors import FAMILIES, ZOO

PAGE = (Path(__file__).parents[2] / 'docs/your_detector.md').read_text()
FILES = dict(re.findall(r'```python\n# (\S+)\n(.*?)```', PAGE, re.DOTALL))
CLASSES = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')


def users_config(family, data):
    """Return a config of the zoo as a user has it: own data, own classes, one epoch."""
    config = Config.fromfile(ZOO / f'{FAMILIES[family]}.py')
    config.model = stock_detector(family)
    if family == 'rtmdet_ins':
        config.custom_hooks[1].switch_epoch = 1
    else:
        # Small images; RTMDet's mosaic is left as it is, but for its size.
        config.train_dataloader.dataset = dict(
            type='CocoDataset',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                dict(type='Resize', scale=(96, 48), keep_ratio=True),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PackDetInputs'),
            ],
        )
    text = config.pretty_text.replace('(640, 640)', '(96, 96)')
    text = re.sub(r'\b640,\n\s+640,', '96, 96,', text)
    config = Config.fromstring(text, '.py')
    for split, loaders in (('train', ['train']), ('val', ['val', 'test'])):
        for loader in loaders:
            dataset = config[f'{loader}_dataloader'].dataset
            dataset.update(
                data_root=str(data),
                ann_file=f'annotations/instancesonly_filtered_gtFine_{split}.json',
                data_prefix=dict(img=f'leftImg8bit/{split}/'),
                metainfo=dict(classes=CLASSES),
            )
            config[f'{loader}_dataloader'].update(
                num_workers=0, persistent_workers=False, batch_size=4
            )
            if loader != 'train':
                config[f'{loader}_evaluator'].ann_file = f'{data}/{dataset.ann_file}'
    config.train_dataloader.dataset.indices = 4  # as if the others had no labels
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)
    return config


@pytest.fixture
def empty(synthscapes, tmp_path, monkeypatch):
    """Make a folder with unlabelled images and a teacher, but without this project."""
    monkeypatch.chdir(tmp_path)
    folder = Path('data/unlabelled')
    folder.mkdir(parents=True)
    for image in sorted((synthscapes / 'leftImg8bit/train').rglob('*.png'))[8:]:
        (folder / image.name).symlink_to(image.name)
        (folder / image.name).unlink()
        (folder / image.name).write_bytes(image.read_bytes())
    return tmp_path


def write_teacher(family, data):
    """Leave a teacher with random weights, which has to find something."""
    config = users_config(family, data)
    config.dump('teacher.py')
    torch.manual_seed(0)
    content = {
        'state_dict': MODELS.build(config.model).state_dict(),
        'meta': {'dataset_meta': {'classes': CLASSES}},
    }
    torch.save(content, 'teacher.pth')


@pytest.mark.parametrize(
    ('student', 'teacher'),
    [
        ('mask_rcnn', 'rtmdet_ins'),
        ('rtmdet_ins', 'mask2former'),
        ('mask2former', 'mask_rcnn'),
    ],
)
def test_twelve_lines(empty, synthscapes, warm, student, teacher):
    users_config(student, synthscapes).dump('my_mask_rcnn.py')
    write_teacher(teacher, synthscapes)
    text = FILES['semi.py']
    assert len(text.splitlines()) <= 12
    Path('semi.py').write_text(text)
    low = 'train_dataloader.dataset.pseudo_labels'
    done = warm(
        *('mim', 'train', 'mmdet', 'semi.py', '--cfg-options'),
        *(f'{low}.score_thr=0.05', f'{low}.skip_empty=False'),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = read_checkpoint('work_dirs/semi/student.pth')
    # 4 labelled and 4 unlabelled images: two batches an epoch, two epochs.
    assert content['meta']['iter'] == 4
    state = content['state_dict']
    plain = MODELS.build(Config.fromfile('my_mask_rcnn.py').model)
    assert state.keys() == plain.state_dict().keys()
    test = warm(
        *('mim', 'test', 'mmdet', 'my_mask_rcnn.py'),
        *('--checkpoint', 'work_dirs/semi/student.pth', '--out', 'found.pkl'),
    )
    assert test.returncode == 0, test.stdout + test.stderr
    assert Path('found.pkl').is_file()


def test_a_teacher_inside_and_the_contrast(empty, synthscapes, warm):
    """The page's other configs, on the same Mask R-CNN."""
    users_config('mask_rcnn', synthscapes).dump('my_mask_rcnn.py')
    write_teacher('mask_rcnn', synthscapes)
    for name in 'semi.py', 'guided.py', 'contrast.py':
        Path(name).write_text(FILES[name])
    low = 'train_dataloader.dataset.pseudo_labels'
    for name, options in {
        'guided': ['model.score_thr=0.05'],
        'contrast': [
            'model.pixel_contrast.in_channels=64',
            *(f'{low}.score_thr=0.05', f'{low}.skip_empty=False'),
        ],
    }.items():
        done = warm('mim', 'train', 'mmdet', f'{name}.py', '--cfg-options', *options)
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        assert Path(f'work_dirs/{name}/student.pth').is_file()
