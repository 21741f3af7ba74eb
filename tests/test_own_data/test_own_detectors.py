"""Test `mmcast own-data` with detectors of your own, flips, and many objects."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.runner import EpochBasedTrainLoop, Runner
from pets import PETS, STAGES, check_stages, check_style, load, read, run, write_pets

from mmcast.checkpoints import save_plain
from mmcast.datasets.splits import read_list
from mmcast.engine.stages import mask_ap
from mmcast.models.detectors.student import class_count
from mmcast.testing.stock_detectors import stock_detector

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


DECAY = """
optim_wrapper = dict(
    optimizer=dict(lr=0.02),
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_rate=0.7, decay_type='layer_wise', num_layers=6),
)
"""


def test_layer_decay_of_a_student_of_your_own(folder, monkeypatch):
    """mmdet's constructor does not find the backbone beside a teacher."""
    run(monkeypatch, *PETS, '--student', write_mine(more=DECAY))
    own = 'LearningRateDecayOptimizerConstructor'
    for stage in ('supervised', 'finetune'):
        assert load(stage).optim_wrapper.constructor == own
    distill = load('distill').optim_wrapper
    assert distill.constructor == 'StudentOptimWrapperConstructor'
    assert distill.paramwise_cfg == dict(
        decay_rate=0.7, decay_type='layer_wise', num_layers=6, constructor=own
    )


def test_a_student_whose_test_writes_predictions_only(folder, monkeypatch):
    """Its `mim test` on the validation images gives AP nevertheless."""
    mine = write_mine(more='test_evaluator = dict(format_only=True)')
    run(monkeypatch, *PETS, '--student', mine)
    assert load('supervised').test_evaluator == dict(
        type='WindowedCocoMetric',
        metric='segm',
        ann_file='data/pets/splits/val.json',
    )


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
    assert not {'--link-root', '--max-instances'} & {*printed.split()}
    assert f"""--classes cat 'dog'"'"'s friend' --store {store}""" in printed
    add_objects(119)
    more = ('--link-root', 'cache', '--out', 'data/more')
    run(monkeypatch, *PETS, '--teacher', 'sam3', *more)
    printed = ' '.join(capsys.readouterr().out.split())
    assert f'--link-root cache --max-instances 200 --store {store}' in printed
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
        ("_base_ = './mine.py'\nval_cfg = None", 'has no val_cfg: give a whole'),
        ("_base_ = './mine.py'\ntest_cfg = None", 'no test_cfg, .* add test_data'),
        ("_base_ = './mine.py'\ntest_evaluator = None", 'has no test_evaluator, and'),
        ("_base_ = './mine.py'\ntest_dataloader = None", r'no test_dataloader\.data'),
        ("_base_ = './mine.py'\nmodel = dict(type='Mine')", 'no detector Mine is reg'),
        ("_base_ = './mine.py'\nx = unknown", 'cannot be read: name .unknown'),
        (
            "_base_ = './mine.py'\nmodel = dict(backbone=dict(num_stages=9))",
            'its model cannot be built',
        ),
        (
            "_base_ = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'",
            'is trained on panoptic masks: give',
        ),
        (
            "_base_ = './mine.py'\ntrain_dataloader = dict(batch_size=None)",
            r'has no train_dataloader\.batch_size',
        ),
    ],
)
def test_a_students_config_that_cannot_work(folder, monkeypatch, text, message):
    monkeypatch.setattr('mmcast.own_data.inspection.read_files', no_images)
    write_mine()
    if text is not None:
        Path('configs/x.py').write_text(text)
    with pytest.raises((OSError, ValueError), match=message) as caught:
        run(monkeypatch, *PETS, '--student', 'configs/x.py')
    assert '\n' not in str(caught.value)
    assert not (folder / 'data/pets/splits').exists()


def no_images(*args):
    raise AssertionError('images are read before the mistake is found')


def test_mistakes_in_options_are_found_before_images_are_read(folder, monkeypatch):
    monkeypatch.setattr('mmcast.own_data.inspection.read_files', no_images)
    mine = write_mine()
    save_plain({}, dict(dataset_meta=dict(classes=['bird'])), Path('teacher.pth'))
    save_plain({}, dict(dataset_meta=None), Path('unnamed.pth'))
    write_pets(folder / 'data/pets/more', 'val.json', 100, 3, names=('CAT', 'd', 'u'))
    for words, message in {
        f'--teacher {mine} none.pth': r"'none\.pth' does not exist",
        f'--teacher {mine} teacher.pth': 'only one has',
        f'--teacher {mine} unnamed.pth': 'keeps no class names',
        f'--val {mine}': 'is not a COCO JSON file',
        '--val data/pets/more/val.json': 'lacks the categories cat',
        '--val data/pets/train.json --val-images none': "folder 'none' is no folder",
    }.items():
        with pytest.raises((OSError, ValueError), match=message):
            run(monkeypatch, *PETS, *words.split())


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


def test_a_checkpoint_with_fewer_queries_starts_a_student(folder, monkeypatch):
    """In `distill`, too; other classes and more queries start at random."""
    add_objects(19)
    model = stock_detector('mask2former', 80)
    old = MODELS.build(model)
    save_plain(old.state_dict(), {}, Path('start.pth'))
    mine = write_mine(more="load_from = 'start.pth'")
    text = Path(mine).read_text().splitlines()
    text[1] = f'model = {dict(model.to_dict(), _delete_=True, init_cfg=None)}'
    Path(mine).write_text('\n'.join(text))
    run(monkeypatch, *PETS, '--student', mine)
    for stage in 'supervised', 'distill':
        cfg = load(stage)
        student = MODELS.build(cfg.model.get('student', cfg.model))
        loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
        loop.dataloader = SimpleNamespace(dataset=None)
        runner = dict(model=student, _train_loop=loop, train_loop=loop, cfg=cfg)
        runner |= dict(_resume=False, _load_from=cfg.load_from, hooks=[])
        HOOKS.build(cfg.default_hooks.preflight).before_run(SimpleNamespace(**runner))
        student.init_weights()
        weights = student.state_dict()
        assert len(weights['panoptic_head.query_feat.weight']) == 100
        changed = {k for k, v in old.state_dict().items() if not same(v, weights[k])}
        assert {key.split('.')[1] for key in changed} == {
            *('query_embed', 'query_feat', 'cls_embed')
        }


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def add_objects(count: int) -> None:
    """Annotate more objects in the first image."""
    path = Path('data/pets/train.json')
    content = json.loads(path.read_text())
    (square,) = [a for a in content['annotations'] if a['image_id'] == 0]
    first = len(content['annotations'])
    content['annotations'] += [{**square, 'id': first + i} for i in range(count)]
    path.write_text(json.dumps(content))


def test_more_objects_than_a_detector_finds(folder, monkeypatch, capsys):
    """The limits rise in all stages, and AP's own one is named."""
    add_objects(119)
    run(monkeypatch, *PETS, '--size', 'medium', '--student', write_mine())
    printed = capsys.readouterr().out
    assert re.search(r'fullest image\s*│ 120: 000.png\s*│ AP counts the 100', printed)
    assert 'fullest image has 120 objects; the student finds at most 200' in printed
    adapt = load('adapt')
    assert adapt.model.test_cfg.max_per_image == 200
    assert load('distill').default_hooks.pseudo_labels.max_instances == 200
    assert adapt.model.panoptic_head.num_queries == 200
    assert 'panoptic_head.query_feat.' in adapt.default_hooks.preflight.may_be_new
    model = MODELS.build({**adapt.model, 'init_cfg': None})
    assert model.panoptic_head.query_feat.weight.shape[0] == 200
    test_cfg = load('supervised').model.test_cfg
    assert (test_cfg.rpn.max_per_img, test_cfg.rcnn.max_per_img) == (200, 200)
