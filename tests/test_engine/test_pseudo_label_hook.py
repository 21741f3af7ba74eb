"""Test what labels the unlabelled images before training."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hook_runs import hook, labels_of_nothing, make_runner, running, unlabelled
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import Runner
from pycocotools import mask as mask_utils

from mmcast._requirements import mim_name
from mmcast.datasets.pseudo_label_store import PseudoLabelStore, Teacher
from mmcast.datasets.semi_supervised import leaves
from mmcast.engine.hooks.pseudo_label_hook import PseudoLabelHook, _transforms

MIM_TRAIN = f'mim train {mim_name()}'


@pytest.mark.parametrize(
    'workers', [{'num_workers': 0}, {'num_workers': 2, 'persistent_workers': True}]
)
def test_empty_and_full_store_give_the_same_training(teacher_world, tmp_path, workers):
    """Compare the images, their order and the random numbers."""
    store = tmp_path / 'store'
    second = dict(type='ConcatDataset', datasets=[unlabelled(teacher_world, store)] * 2)
    loader = dict(
        batch_size=2,
        batch_sampler=None,
        sampler=dict(type='MultiSourceSampler', batch_size=2, source_ratio=[1, 1]),
        **workers,
    )
    records = []
    for run in ('empty', 'full'):
        runner, record = make_runner(
            tmp_path / run,
            copy.deepcopy(second),
            [hook(teacher_world)],
            loader=copy.deepcopy(loader),
        )
        runner.train()
        records.append(record)
        times = {p: p.stat().st_mtime_ns for p in store.rglob('*.json')}
        assert len(times) == len(teacher_world.names) + 1
        if run == 'empty':
            before = times
    assert before == times
    assert len(records[0].seen) == 8
    assert records[0].instances > 8
    assert records[0].seen == records[1].seen
    assert records[0].instances == records[1].instances
    assert records[0].random == records[1].random

    # The order is also that of a new loader.
    fresh = Runner.build_dataloader(
        dict(
            dataset=copy.deepcopy(second),
            **{**loader, 'num_workers': 0} | {'persistent_workers': False},
        ),
        seed=3,
    )
    batches = iter(fresh)
    expected = [
        sample.img_path for _ in range(4) for sample in next(batches)['data_samples']
    ]
    assert records[0].seen == expected


def test_epoch_based_training(teacher_world, tmp_path):
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world, batch_size=3)],
        loader=dict(
            num_workers=1,
            batch_size=5,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
    )
    runner.train()
    assert [path[-12:] for path in record.seen] == [
        name[-12:] for name in sorted(teacher_world.names)
    ]


def test_missing_teacher_raises_before_training(teacher_world, tmp_path):
    (tmp_path / 'adapt_x.py').write_text('')
    absent = hook(teacher_world, teacher=str(tmp_path / 'adapt_x' / 'none.pth'))
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, tmp_path / 'store'), [absent]
    )
    runner.cfg = running(tmp_path / 'distill_x.py')
    with pytest.raises(FileNotFoundError, match='10 of 10 images') as error:
        runner.train()
    assert str(error.value).endswith(f'{MIM_TRAIN} {tmp_path}/adapt_x.py')
    assert str(tmp_path / 'adapt_x' / 'none.pth') in str(error.value)
    assert record.seen == []
    assert not (tmp_path / 'store').exists()


def test_how_a_folder_of_labels_is_filled(teacher_world, tmp_path):
    """By the command that made it, with its phrases; not by SAM 3 in any case."""
    first, *rest = teacher_world.classes
    for made_by, remedy in (
        ('t.py refined by sam2 (s4m)', 'They are of t.py refined by sam2 (s4m): run'),
        (f'SAM 3: red {first}; {"; ".join(rest)}', f"--prompts '{first}=red {first}'"),
    ):
        folder = tmp_path / f'sam2.1_{made_by[0]}'  # with a dot
        PseudoLabelStore.create(
            folder, classes=teacher_world.classes, teacher=Teacher(made_by, 'x', '0')
        )
        runner, _ = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, None),
            [hook(teacher_world, teacher=str(folder))],
        )
        with pytest.raises(FileNotFoundError, match='10 of 10 images') as error:
            runner.train()
        assert f'{folder}: ' in str(error.value)
        assert remedy in str(error.value)
        assert ('sam3' in str(error.value)) == made_by.startswith('SAM 3')
    absent = hook(teacher_world, teacher=str(tmp_path / 'nothing'))
    runner, _ = make_runner(tmp_path / 'run', unlabelled(teacher_world, None), [absent])
    images = f'--images {teacher_world.img_root}'
    command = f'Fill it with: mmcast label --teacher sam3 {images} --classes {first} '
    with pytest.raises(FileNotFoundError, match=command):
        runner.train()


@pytest.mark.parametrize('layout', ['folder', 'shards'])
def test_a_folder_that_is_no_store_yet_becomes_one(teacher_world, tmp_path, layout):
    """Start again after a kill that left the folder without its manifest."""
    store = tmp_path / 'store'
    store.mkdir()
    (store / '.manifest.json.abcdefgh').write_text('{')
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, store),
        [hook(teacher_world, layout=layout)],
    )
    runner.train()
    opened = PseudoLabelStore.open(store)
    assert opened.layout == layout
    assert opened.missing(teacher_world.names) == []


def test_a_complete_store_needs_no_teacher(teacher_world, tmp_path):
    store = labels_of_nothing(teacher_world, tmp_path / 'store')
    absent = hook(teacher_world, teacher='none.pth', config='x')
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store.root), [absent]
    )
    runner.train()
    assert len(record.seen) == 8
    # If the checkpoint exists, its digest must match.
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store.root), [hook(teacher_world)]
    )
    with pytest.raises(ValueError, match=r'digest 0 \(t\.pth\), but [0-9a-f]{64}'):
        runner.train()
    assert record.seen == []


def test_labels_of_another_tool_are_a_teacher(teacher_world, tmp_path):
    """Its COCO file fills the store, by names; every image must be in it."""
    square = [2, 2, 40, 2, 40, 30, 2, 30]
    images = [
        dict(id=f'i{i}', file_name=f'/theirs/{name}', height=48, width=72)
        for i, name in enumerate(teacher_world.names)
    ]
    annotations = [
        dict(image_id=f'i{i}', category_id=9, segmentation=[square], score=0.5)
        for i in range(0, len(images), 2)
    ]
    categories = [
        dict(id=9 - i, name=name) for i, name in enumerate(teacher_world.classes)
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps(content))
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, None),
        [dict(type='PseudoLabelHook', teacher=str(path))],
    )
    runner.train()
    store = PseudoLabelStore.open(tmp_path / 'pseudo_labels')
    assert store.classes == tuple(teacher_world.classes)
    assert store.read(teacher_world.names[0]).labels.tolist() == [0]
    assert len(record.seen) == 8
    assert record.instances == sum(
        name in teacher_world.names[::2]
        for name in (
            str(Path(p).relative_to(teacher_world.img_root)) for p in record.seen
        )
    )
    filled = [dict(type='PseudoLabelHook', teacher=str(store.root))]
    runner, again = make_runner(tmp_path / 'f', unlabelled(teacher_world, None), filled)
    runner.train()
    assert again.seen == record.seen
    store.path(teacher_world.names[0]).unlink()
    runner, _ = make_runner(tmp_path / 'g', unlabelled(teacher_world, None), filled)
    message = '1 of 10 images .* They are of COCO JSON: run the command'
    with pytest.raises(FileNotFoundError, match=message):
        runner.train()
    content['images'].pop()
    content['annotations'].pop()
    other = tmp_path / 'other' / 'labels.json'
    other.parent.mkdir()
    other.write_text(json.dumps(content))
    runner, _ = make_runner(
        tmp_path / 'run2',
        unlabelled(teacher_world, None),
        [dict(type='PseudoLabelHook', teacher=str(other))],
    )
    with pytest.raises(ValueError, match='1 of 10 unlabelled images are not in'):
        runner.train()


def test_broken_entry_raises_before_training(teacher_world, tmp_path):
    store = tmp_path / 'store'
    runner, _ = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store), [hook(teacher_world)]
    )
    runner.train()
    (store / 'town1/image_03.json').write_text('{"ima')
    runner, record = make_runner(
        tmp_path / 'run', unlabelled(teacher_world, store), [hook(teacher_world)]
    )
    with pytest.raises(ValueError, match=r'town1/image_03\.json is not a whole'):
        runner.train()
    assert record.seen == []


def test_other_classes_raise_with_both_lists(teacher_world, tmp_path):
    dataset = unlabelled(teacher_world, tmp_path / 'store')
    dataset['metainfo'] = dict(classes=('dog', 'car', 'rider'))
    runner, _ = make_runner(tmp_path / 'run', dataset, [hook(teacher_world)])
    with pytest.raises(ValueError, match=r"'person'.*'dog'"):
        runner.train()
    PseudoLabelStore.create(
        tmp_path / 'other', classes=['cat'], teacher=Teacher('t.py', 't.pth', '0')
    )
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'other'),
        [hook(teacher_world)],
    )
    with pytest.raises(ValueError, match=r"'cat'.*'person'"):
        runner.train()


def test_teacher_of_another_architecture_raises(teacher_world, tmp_path):
    cfg = Config.fromfile(teacher_world.config)
    cfg.model.roi_head.mask_head.num_convs = 2
    cfg.dump(tmp_path / 'other.py')
    runner, _ = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, tmp_path / 'store'),
        [hook(teacher_world, config=str(tmp_path / 'other.py'))],
    )
    with pytest.raises(ValueError, match=r'does not fit.*mask_head\.convs\.1'):
        runner.train()


def test_hook_without_a_data_set_raises(teacher_world, tmp_path):
    dataset = unlabelled(teacher_world, tmp_path / 'store')
    del dataset['pipeline'][1]
    runner, _ = make_runner(tmp_path / 'run', dataset, [hook(teacher_world)])
    with pytest.raises(ValueError, match='no data set with LoadPseudoAnnotations'):
        runner.train()


def test_the_transform_is_found_inside_wrappers(teacher_world, tmp_path):
    inner = unlabelled(teacher_world, tmp_path / 'store')
    load, *rest = inner['pipeline']
    inner['pipeline'] = [
        load,
        dict(type='MultiBranch', branch_field=['unsup'], unsup=rest),
    ]
    dataset = DATASETS.build(
        dict(
            type='ConcatDataset',
            datasets=[dict(type='RepeatDataset', times=2, dataset=inner)],
        )
    )
    (leaf,) = leaves(dataset)
    names = [type(part).__name__ for part in _transforms(leaf.pipeline)]
    assert names.count('LoadPseudoAnnotations') == 1


def test_default_store_is_next_to_the_teacher(teacher_world, tmp_path):
    """Build the teacher from its stage's config, where it is a wrapper's student."""
    cfg = Config.fromfile(teacher_world.config)
    cfg.model = dict(type='SemiSupervisedSegmentor', student=cfg.model)
    cfg.dump(tmp_path / 'selftrain_x.py')
    folder = tmp_path / 'work_dirs/selftrain_x'
    folder.mkdir(parents=True)
    (folder / 'teacher.pth').write_bytes(teacher_world.checkpoint.read_bytes())
    dataset = unlabelled(teacher_world, None)
    own = hook(teacher_world, teacher=str(folder / 'teacher.pth'), config=None)
    runner, record = make_runner(tmp_path / 'run', dataset, [own])
    runner.cfg = running(tmp_path / 'distill_x.py')
    runner.train()
    assert record.instances > 0
    assert (folder / 'pseudo_labels/manifest.json').is_file()


def test_images_without_labels_are_skipped(teacher_world, tmp_path):
    """Check also that training does not start if no image has a label."""
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=teacher_world.classes,
        teacher=Teacher.from_files(teacher_world.config, teacher_world.checkpoint),
    )
    rle = mask_utils.encode(np.ones((48, 72), np.uint8, order='F'))
    for i, name in enumerate(teacher_world.names):
        scores = [0.9] if i in (2, 5) else [0.05] if i == 3 else []
        count = len(scores)
        store.write(
            name, (48, 72), [0] * count, scores, [[0, 0, 72, 48]] * count, [rle] * count
        )
    for skip in (True, False):
        runner, record = make_runner(
            tmp_path / 'run',
            unlabelled(teacher_world, store.root, skip_empty=skip),
            [hook(teacher_world)],
        )
        runner.train()
        assert len(record.seen) == 8
        assert (record.instances == 8) == skip
        assert (len(set(record.seen)) == 2) == skip
    (log,) = (tmp_path / 'run').glob(f'{runner.timestamp}/*.log')
    text = log.read_text()
    assert '2 instances have a score above 0.06, which training uses' in text
    assert '8 images have none of these' in text
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, store.root, skip_empty=True, score_thr=0.95),
        [hook(teacher_world)],
    )
    asked = r'None of the 10 images .* a score above 0\.95 in .*: ask for less in'
    with pytest.raises(ValueError, match=asked):
        runner.train()
    assert record.seen == []


@pytest.mark.parametrize(
    ('rule', 'asked'),
    [
        (dict(class_score_thr=0.7), r'a score above 0\.06, a class score above 0\.7 '),
        (dict(mask_quality_thr=0.9), r'a mask quality above 0\.9 '),
        (dict(min_area=4000), 'at least 4000 pixels '),
    ],
)
def test_labels_that_the_rule_drops_raise_before_training(
    teacher_world, tmp_path, rule, asked
):
    store = PseudoLabelStore.create(
        tmp_path / 'store',
        classes=teacher_world.classes,
        teacher=Teacher.from_files(teacher_world.config, teacher_world.checkpoint),
    )
    rle = mask_utils.encode(np.ones((48, 72), np.uint8, order='F'))
    for name in teacher_world.names:
        store.write(
            *(name, (48, 72), [0], [0.5], [[0, 0, 72, 48]], [rle]), [0.7], [0.8]
        )
    runner, record = make_runner(
        tmp_path / 'run',
        unlabelled(teacher_world, store.root, skip_empty=True, **rule),
        [hook(teacher_world)],
    )
    with pytest.raises(ValueError, match=f'None of the 10 images .*{asked}'):
        runner.train()
    assert record.seen == []


def test_views_are_for_a_detector_alone(tmp_path):
    for teacher in ('labels.json', tmp_path / 'folder', 'not_there_yet'):
        with pytest.raises(ValueError, match='has labels already: leave `views` out'):
            PseudoLabelHook(str(teacher), views=dict(flip=True))
