"""Test the converter of the photographs on maps that are drawn by hand."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine import Config
from mmengine.runner import Runner
from pycocotools import mask as mask_utils
from scipy.io import savemat

from mmcast.datasets.pseudo_label_store import PseudoLabelStore
from mmcast.testing import CONFIGS, all_dicts

CONVERTER = Path(__file__).parents[2] / 'tools/dataset_converters/ccp.py'
NAMES = ['null', 'boots', 'dress', 'romper', 'skin', 'hat']
PHOTOS = (
    1,
    2,
    3,
    1005,
    1083,
)  # of training, testing, validation, without map, left out


@pytest.fixture(scope='module')
def converter():
    return runpy.run_path(str(CONVERTER))


def drawn_map(height=800, width=500):
    """Return tags: boots of three sizes, a dress in two parts, and a speck of hat."""
    tags = np.zeros((height, width), np.uint8)
    tags[700:740, 100:140] = 1  # 1,600 pixels; 0.05 % are 200
    tags[700:720, 300:311] = 1  # 220 pixels
    tags[600:610, 10:20] = 1  # 100 pixels
    tags[200:500, 150:350] = 2
    tags[520:530, 150:155] = 2  # 50 pixels, apart: not one of the dress
    tags[100:200, 150:350] = 4
    tags[0:9, 0:9] = 5  # 81 pixels; 0.025 % are 100
    return tags


def test_objects_follow_the_rule(converter):
    found = [
        (converter['CLASSES'][i], m)
        for i, m in converter['objects'](drawn_map(), NAMES)
    ]
    assert [(name, int(m.sum())) for name, m in found] == [
        ('footwear', 1600),
        ('footwear', 220),
        ('dress', 300 * 200),
    ]
    small = np.where(drawn_map() == 5, 5, 0).astype(np.uint8)[:200, :500]
    (hat,) = converter['objects'](small, NAMES)  # 81 of 100,000 pixels
    assert hat[0] == converter['CLASSES'].index('hat')


def test_each_tag_is_in_one_class(converter):
    tags = [tag for of in converter['TAGS'].values() for tag in of.split()]
    assert len(tags) == len(set(tags)) == 44
    classes = Config.fromfile(CONFIGS / 'supervised_ccp.py').classes
    assert converter['CLASSES'] == tuple(classes)


def test_lists_are_apart_and_nested(converter):
    lists = json.loads(converter['LISTS'].read_text())
    assert (len(lists['val']), len(lists['test'])) == (100, 300)
    taken = {*lists['val'], *lists['test'], *lists['left_out']}
    assert len(taken) == 402
    for draw in lists['draws']:
        few, more, most = (set(draw['labeled'][count]) for count in ('30', '60', '180'))
        assert [len(few), len(more), len(most)] == [30, 60, 180]
        assert few < more < most
        assert len({*draw['unlabeled']} - most - taken) == 600
        assert max(most) <= 1004
        assert max(draw['unlabeled']) <= 2098


@pytest.fixture(scope='module')
def data(converter, tmp_path_factory):
    """Convert a repository of a few drawn photographs."""
    source = tmp_path_factory.mktemp('source')
    out = tmp_path_factory.mktemp('work') / 'data/ccp'
    maps = source / 'annotations/pixel-level'
    maps.mkdir(parents=True)
    (source / 'photos').mkdir()
    names = np.empty((1, len(NAMES)), object)
    names[0] = NAMES
    savemat(source / 'label_list.mat', {'label_list': names})
    for number in PHOTOS:
        tags = drawn_map()
        photo = np.stack([40 * tags, 255 - 40 * tags, 20 * tags], -1)
        cv2.imwrite(str(source / f'photos/{number:04}.jpg'), photo)
        if number <= 1004:
            savemat(maps / f'{number:04}.mat', {'groundtruth': tags})
    converter['convert'](source, out)
    return out


def test_photographs_are_converted(data):
    files = sorted(path.relative_to(data).as_posix() for path in data.rglob('*.jpg'))
    assert files == [
        'images/test/0002.jpg',
        'images/train/0001.jpg',
        'images/train/1005.jpg',
        'images/val/0003.jpg',
    ]
    assert cv2.imread(str(data / files[0])).shape == (384, 240, 3)
    coco = json.loads((data / 'annotations/train.json').read_text())
    assert coco['images'] == [dict(id=1, file_name='0001.jpg', width=240, height=384)]
    boot, _, dress = coco['annotations']
    assert dress['bbox'] == [72.0, 96.0, 96.0, 144.0]
    assert dress['area'] == 96 * 144 == mask_utils.area(dress['segmentation'])
    assert (boot['category_id'], dress['category_id']) == (2, 6)
    assert len((data / 'splits/180_2/labeled.txt').read_text().split()) == 180


def test_all_stages_run(data, monkeypatch):
    """Two iterations each, with labels merged from views, on the drawn photographs."""
    monkeypatch.chdir(data.parents[1])
    for split, name in (('labeled', '0001.jpg'), ('unlabeled', '1005.jpg')):
        (data / f'splits/60_0/{split}.txt').write_text(f'{name}\n' * 1)
    stages = ('supervised', 'adapt', 'selftrain', 'distill', 'finetune')
    guided = [f'guided_distillation/{stage}_ccp' for stage in ('teacher', 'distill')]
    for name in [*(f'{stage}_ccp' for stage in stages), *guided]:
        config = Config.fromfile(CONFIGS / f'{name}.py')
        config.work_dir = config.get('work_dir') or f'work_dirs/{name}'
        config.train_cfg.update(max_iters=2, val_begin=10)
        for part in all_dicts(config._cfg_dict):
            if part.get('type') == 'Pretrained':
                part['type'] = 'Constant'
                part.update(layer='Linear', val=0.01)
                del part['checkpoint']
            if part.get('type') == 'SemiSupervisedDataset' and 'pseudo_labels' in part:
                part['pseudo_labels'].update(skip_empty=False)
            if 'num_workers' in part:
                part.update(num_workers=0, persistent_workers=False)
        runner = Runner.from_cfg(config)
        runner.train()
        assert runner.iter == 2
    store = PseudoLabelStore.open('work_dirs/adapt_ccp/pseudo_labels')
    assert store.views == ('1', '1 mirrored', '1.25', '1.25 mirrored')
